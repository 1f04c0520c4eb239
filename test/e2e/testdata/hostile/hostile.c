// Maps files of the folder /w as code, puts other things in their place, and crashes when /w/go is there. Its argument is
// a path outside the container that symbolic links are to name.
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int *volatile nowhere = (int *)16;

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(3);
	}
}

// made returns a file with a page of text, and its size set.
static int made(const char *path, const void *text, size_t len, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0755);
	must(fd >= 0, path);
	must(write(fd, text, len) == (ssize_t)len, path);
	must(ftruncate(fd, size) == 0, path);
	return fd;
}

static void map(int fd, off_t at, const char *what)
{
	void *m = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, at);
	must(m != MAP_FAILED, what);
	volatile char c = *(volatile char *)m;
	(void)c;
	close(fd);
}

int main(int argc, char **argv)
{
	must(argc == 2, "usage");
	must(chdir("/w") == 0, "/w");
	static const char *names[] = {"link", "fifo", "device", "folder", "gone"};
	for (int i = 0; i < 5; i++) {
		map(made(names[i], "the original\n", 13, 4096), 0, names[i]);
		must(unlink(names[i]) == 0, names[i]);
	}
	must(symlink(argv[1], "link") == 0, "link");
	must(mkfifo("fifo", 0666) == 0, "fifo");
	must(mkdir("folder", 0755) == 0, "folder");
	map(made("sparse", "", 0, (off_t)1 << 40), (off_t)1 << 39, "sparse");
	// Headers that promise more than there is.
	Elf64_Ehdr e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_DYN, .e_machine = EM_X86_64,
		.e_phoff = 64, .e_phentsize = 56, .e_phnum = 0xfffe, .e_shoff = 0xfffffffffffff000, .e_shentsize = 64, .e_shnum = 0xffff};
	map(made("headers", &e, sizeof e, 4096), 0, "headers");
	struct {
		Elf64_Ehdr e;
		Elf64_Phdr p[3];
	} notes = {.e = e, .p = {{.p_type = PT_LOAD, .p_filesz = ~0ull, .p_memsz = ~0ull},
		{.p_type = PT_NOTE, .p_offset = 0xfff, .p_vaddr = 0xffffffffffffff00, .p_filesz = 1ull << 60, .p_memsz = 1ull << 60},
		{.p_type = PT_DYNAMIC, .p_offset = 8, .p_vaddr = 8, .p_filesz = ~0ull, .p_memsz = ~0ull}}};
	notes.e.e_phnum = 3;
	map(made("notes", &notes, sizeof notes, 4096), 0, "notes");
	map(made("new\nline \xff\x1b[2J", "x", 1, 4096), 0, "a name");
	int fd = memfd_create("../../../memory", 0);
	must(fd >= 0 && ftruncate(fd, 4096) == 0, "memfd");
	map(fd, 0, "memfd");
	map(open("/dev/zero", O_RDWR), 0, "/dev/zero");
	must(open("fifo", O_RDWR) >= 0, "open fifo");
	must(mkdir("/cwd", 0755) == 0 && chdir("/cwd") == 0 && rmdir("/cwd") == 0, "working directory");
	must(unlink(argv[0]) == 0 && symlink(argv[1], argv[0]) == 0, argv[0]);
	puts("ready");
	fflush(stdout);
	while (access("/w/go", F_OK))
		usleep(1000);
	return *nowhere;
}
