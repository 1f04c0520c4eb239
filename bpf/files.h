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

struct files_struct {
	struct fdtable *fdt;
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

#endif
