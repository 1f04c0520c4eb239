// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// From a descriptor to what it is of.
#ifndef TRITON_FILES_H
#define TRITON_FILES_H

#include "core.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inode {
	u16 i_mode;
};

struct file {
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

#define FILES_AT_FIRST 64 // NR_OPEN_DEFAULT of include/linux/fdtable.h, where there are 64 bits

struct files_struct {
	struct fdtable *fdt;
	struct file *fd_array[FILES_AT_FIRST]; // the table, as long as nobody needed a larger one
};

struct task_struct___files {
	struct files_struct *files;
};

#pragma clang attribute pop

// file_of returns the file of a task's descriptor; 0: it has none. The table is reached by plain loads: task is a pointer that the
// verifier knows.
static __always_inline struct file *file_of(struct task_struct *task, u64 fd)
{
	struct fdtable *table = ((struct task_struct___files *)task)->files->fdt;
	struct file *file = 0;

	if (fd < table->max_fds)
		bpf_probe_read_kernel(&file, sizeof(file), table->fd + fd);
	return file;
}

#define AT(n) case n: return files->fd_array[n]->f_inode->i_mode

// mode_at is what a low descriptor is of, in a table of the first size. Where the index is a constant, the verifier knows what is
// loaded, so that no helper has to be called: each costs as much as all of this.
static __always_inline u32 mode_at(struct files_struct *files, u64 fd)
{
	switch (fd) {
	AT(0);
	AT(1);
	AT(2);
	AT(3);
	AT(4);
	AT(5);
	AT(6);
	AT(7);
	AT(8);
	AT(9);
	AT(10);
	AT(11);
	AT(12);
	AT(13);
	AT(14);
	AT(15);
	}
	return 0;
}

// mode_of is what a descriptor of the task is of; 0: nothing, or something that has no mode.
static __always_inline u32 mode_of(struct task_struct *task, u64 fd)
{
	struct files_struct *files = ((struct task_struct___files *)task)->files;
	struct file *file;

	if (fd < 16 && files->fdt->max_fds == FILES_AT_FIRST)
		return mode_at(files, fd);
	file = file_of(task, fd);
	return BPF_CORE_READ(file, f_inode, i_mode);
}

#endif
