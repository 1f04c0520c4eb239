/* Ends at once with code 0: execve and exit_group are the only system calls of its own. Built without libc. */
#if defined(__x86_64__)
__attribute__((force_align_arg_pointer)) void _start(void)
{
	__asm__ volatile("xor %%edi, %%edi; mov $231, %%eax; syscall" ::: "rax", "rdi", "rcx", "r11", "memory");
	__builtin_unreachable();
}
#elif defined(__aarch64__)
void _start(void)
{
	__asm__ volatile("mov x0, #0; mov x8, #94; svc #0" ::: "x0", "x8", "memory");
	__builtin_unreachable();
}
#else
#error "add exit_group for this architecture"
#endif
