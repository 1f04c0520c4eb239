// SPDX-License-Identifier: Apache-2.0
// A further process of a container (docker exec): it joins the container's namespaces and control groups, becomes the
// user, gives up what the process may not have, and executes the program. It does what libcontainer's init does for a
// setns process, in libcontainer's order (runc 1.5.2, nsexec.c and setns_init_linux.go), without its start of a Go runtime.
//
// The shim executes it from a sealed memory file, so that nobody inside the container can reach a file of the host's
// through /proc/PID/exe, with these descriptors and no others: 0 to 2 the process's own, 3 a socket for reports, 4 the order
// (struct order), 5 the pidfd of the container's first process, then `tasks` files of cgroup v1, then with a terminal a
// socket that takes its master.
//
// Three stages, each made by the one before with CLONE_PARENT, so that all are the shim's children: that is how the exit
// program (bpf/exits.h) recognises who will run the program. Stage 0 makes stage 1, which joins the namespaces and makes
// stage 2 inside the pid namespace.
#include "passwd.h"
#include "sys.h"

enum { REPORTS = 3, ORDER = 4, PIDFD = 5, GIVEN = 6 };

struct list { // of n things in the order, from offset at
	uint32_t at, n;
};

// struct order is laid out by pkg/shim/order.go. Strings are offsets of text that ends with a zero byte; 0 is none.
struct order {
	uint32_t version, size, flags, namespaces;
	uint32_t uid, gid;
	uint32_t rows, columns;
	uint32_t tasks; // `tasks` files
	uint32_t filter_flags;
	uint32_t cwd, keyring, oom_score_adj;
	uint32_t pad;
	uint64_t bounding, effective, permitted, inheritable, ambient;
	struct list groups;  // u32
	struct list rlimits; // struct rlimit_order
	struct list filter;  // struct sock_filter
	struct list args, env, programs; // strings; programs are tried in order
};

enum order_flags {
	ORDER_TERMINAL = 1,
	ORDER_NO_NEW_PRIVS = 2,
	ORDER_HOME = 4,   // HOME is to be looked up
	ORDER_SEARCH = 8, // programs come from PATH: those that cannot be executed are passed over
};

#define ORDER_VERSION 1

struct rlimit_order {
	uint32_t kind, pad;
	uint64_t soft, hard;
};

// Reports go to the shim, one datagram each. The last one is that the socket closes: the program was executed.
enum report_kind { REPORT_STAGE = 1, REPORT_PROCESS = 2, REPORT_FAILED = 3 };

// The steps that can fail; pkg/shim/enter.go words them as libcontainer does.
enum step {
	STEP_ORDER = 1, STEP_CLONE, STEP_CGROUP, STEP_OOM_SCORE, STEP_RLIMIT, STEP_NAMESPACES, STEP_SESSION, STEP_KEYRING,
	STEP_TERMINAL, STEP_SECCOMP, STEP_DESCRIPTORS, STEP_CWD, STEP_CWD_OUTSIDE, STEP_BOUNDING, STEP_STDIO, STEP_GROUPS,
	STEP_GID, STEP_UID, STEP_CAPABILITIES, STEP_STAT, STEP_ACCESS, STEP_SEARCH, STEP_DOT,
};

struct report {
	uint32_t kind, step;
	int32_t value; // a pid, or an errno
};

static void report(uint32_t kind, uint32_t step, long value)
{
	struct report r = { kind, step, value };

	call(__NR_write, REPORTS, &r, sizeof(r)); // a shim that died takes none: SIGPIPE, and nothing is executed
}

static __attribute__((noreturn)) void leave(int code)
{
	for (;;)
		call(__NR_exit_group, code);
}

static __attribute__((noreturn)) void fail(enum step step, long err)
{
	report(REPORT_FAILED, step, -err);
	leave(255);
}

// must ends the stage when a system call failed.
static long must(enum step step, long ret)
{
	if (ret < 0)
		fail(step, ret);
	return ret;
}

static const void *at(const struct order *o, uint32_t offset) { return (const char *)o + offset; }

static const struct order *read_order(void)
{
	struct stat st;
	long addr;
	const struct order *o;

	must(STEP_ORDER, call(__NR_fstat, ORDER, &st));
	if (st.st_size < (long)sizeof(*o))
		fail(STEP_ORDER, -EINVAL);
	addr = must(STEP_ORDER, call(__NR_mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, ORDER, 0));
	o = (const struct order *)addr;
	if (o->version != ORDER_VERSION || o->size != st.st_size)
		fail(STEP_ORDER, -EINVAL);
	call(__NR_close, ORDER);
	return o;
}

static void *memory(enum step step, size_t n)
{
	return (void *)must(step, call(__NR_mmap, 0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

// join_cgroups moves this process, which has one thread, by writing to `tasks`: unlike cgroup.procs that waits for no
// grace period of RCU (kernel/cgroup/cgroup.c, cgroup_procs_write_start: no lock for the writer itself).
static void join_cgroups(const struct order *o)
{
	for (uint32_t i = 0; i < o->tasks; i++) {
		must(STEP_CGROUP, call(__NR_write, GIVEN + i, "0", 1));
		call(__NR_close, GIVEN + i);
	}
}

static void write_oom_score(const struct order *o)
{
	const char *text = at(o, o->oom_score_adj);
	long fd;

	if (!o->oom_score_adj)
		return;
	fd = must(STEP_OOM_SCORE, call(__NR_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
	must(STEP_OOM_SCORE, call(__NR_write, fd, text, length(text)));
	call(__NR_close, fd);
}

// allow_rlimits raises what is to be above this process's hard limits: the container's user namespace has no right to.
static void allow_rlimits(const struct order *o)
{
	const struct rlimit_order *r = at(o, o->rlimits.at);

	for (uint32_t i = 0; i < o->rlimits.n; i++) {
		uint64_t limit[2];

		must(STEP_RLIMIT, call(__NR_prlimit64, 0, r[i].kind, 0, limit));
		if (limit[1] >= r[i].hard)
			continue;
		limit[1] = r[i].hard;
		must(STEP_RLIMIT, call(__NR_prlimit64, 0, r[i].kind, limit, 0));
	}
}

// set_rlimits comes after the last change to root: a limit of processes must not count against it (libcontainer sets them
// when its init says that it is ready).
static void set_rlimits(const struct order *o)
{
	const struct rlimit_order *r = at(o, o->rlimits.at);

	for (uint32_t i = 0; i < o->rlimits.n; i++)
		must(STEP_RLIMIT, call(__NR_prlimit64, 0, r[i].kind, &r[i].soft, 0));
}

// reset_affinity allows every processor that the container's cpuset has, whatever the shim runs on.
static void reset_affinity(void)
{
	static uint8_t all[8192]; // more bits than the kernel has processors

	memset(all, 0xff, sizeof(all));
	call(__NR_sched_setaffinity, 0, sizeof(all), all); // as in libcontainer no reason to fail
}

static void send_master(int socket, int master)
{
	static const char name[] = "/dev/ptmx";
	struct part part = { name, sizeof(name) - 1 };
	struct rights rights = { offsetof(struct rights, pad), SOL_SOCKET, SCM_RIGHTS, master, 0 };
	struct message m = { .parts = &part, .nparts = 1, .control = &rights, .control_len = sizeof(rights) };

	must(STEP_TERMINAL, call(__NR_sendmsg, socket, &m, MSG_NOSIGNAL));
}

// open_terminal makes a pty of the container's own devpts and puts it in place of the standard files. What lies at the path
// is the container's: it is used only when it is the ptmx of a devpts (see libcontainer's checkPtmxHandle).
static void open_terminal(const struct order *o)
{
	const int socket = GIVEN + o->tasks;
	struct statfs fs;
	struct stat st;
	int unlock = 0;
	long master, slave;

	master = must(STEP_TERMINAL, call(__NR_openat, AT_FDCWD, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
	must(STEP_TERMINAL, call(__NR_fstat, master, &st));
	must(STEP_TERMINAL, call(__NR_fstatfs, master, &fs));
	if (fs.f_type != DEVPTS_SUPER_MAGIC || st.st_ino != 2 || !S_ISCHR(st.st_mode) || st.st_rdev != (5 << 8 | 2))
		fail(STEP_TERMINAL, -ENODEV);
	must(STEP_TERMINAL, call(__NR_ioctl, master, TIOCSPTLCK, &unlock));
	slave = must(STEP_TERMINAL, call(__NR_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (o->rows && o->columns) {
		uint16_t size[4] = { o->rows, o->columns, 0, 0 };

		must(STEP_TERMINAL, call(__NR_ioctl, master, TIOCSWINSZ, size));
	}
	send_master(socket, master);
	for (int fd = 0; fd < 3; fd++)
		must(STEP_TERMINAL, call(__NR_dup3, slave, fd, 0));
	must(STEP_TERMINAL, call(__NR_ioctl, 0, TIOCSCTTY, 0));
	call(__NR_close, master);
	call(__NR_close, slave);
	call(__NR_close, socket);
}

static void load_filter(const struct order *o)
{
	struct sock_fprog program = { o->filter.n, (struct sock_filter *)at(o, o->filter.at) };

	if (o->filter.n)
		must(STEP_SECCOMP, call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, o->filter_flags, &program));
}

// home returns "HOME=" and the home folder of the user as the container's own passwd file has it; / where it has none.
static char *home(const struct order *o)
{
	enum { MOST = 1 << 20, PREFIX = 5 };
	char *text = memory(STEP_CWD, MOST + PREFIX + 2), *out;
	const char *dir = "/";
	long n = 0, got, len = 1;
	struct stat st;
	long fd = call(__NR_openat, AT_FDCWD, "/etc/passwd", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && !call(__NR_fstat, fd, &st) && S_ISREG(st.st_mode))
		while (n < MOST && (got = call(__NR_read, fd, text + n, MOST - n)) > 0)
			n += got;
	if (fd >= 0)
		call(__NR_close, fd);
	if ((got = home_of(text, n, o->uid, &dir)) >= 0)
		len = got;
	out = memory(STEP_CWD, PREFIX + len + 1);
	memcpy(out, "HOME=", PREFIX);
	memcpy(out + PREFIX, dir, len);
	return out;
}

static void drop_bounding(const struct order *o)
{
	for (long cap = 0; cap < 64; cap++) {
		long has = call(__NR_prctl, PR_CAPBSET_READ, cap);

		if (has < 0)
			return; // the kernel knows no more
		if (has && !(o->bounding >> cap & 1))
			must(STEP_BOUNDING, call(__NR_prctl, PR_CAPBSET_DROP, cap));
	}
}

// own_stdio gives the user the standard files, except the null device, whose node may be the host's.
static void own_stdio(const struct order *o)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;
		long err;

		must(STEP_STDIO, call(__NR_fstat, fd, &st));
		if (st.st_uid == o->uid || (S_ISCHR(st.st_mode) && st.st_rdev == (1 << 8 | 3)))
			continue;
		err = call(__NR_fchown, fd, o->uid, -1);
		if (err != -EPERM && err != -EROFS) // an owner that is not mapped, a file system that is only read
			must(STEP_STDIO, err);
	}
}

static void set_capabilities(const struct order *o)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {
		{ o->effective, o->permitted, o->inheritable },
		{ o->effective >> 32, o->permitted >> 32, o->inheritable >> 32 },
	};

	must(STEP_CAPABILITIES, call(__NR_capset, &head, data));
	call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
	for (long cap = 0; cap < 64; cap++)
		if (o->ambient >> cap & 1) // as in libcontainer one that cannot be raised is no reason to fail
			call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap);
}

// become makes this process the user, with the capabilities it is to have, in its working directory. See finalizeNamespace
// of libcontainer: the directory is entered as root first, then, where root may not, as the user.
static void become(const struct order *o)
{
	static char path[4096];
	const char *cwd = at(o, o->cwd);
	long entered = call(__NR_chdir, cwd);

	if (entered < 0 && entered != -EACCES && entered != -EPERM)
		fail(STEP_CWD, entered);
	drop_bounding(o);
	must(STEP_CAPABILITIES, call(__NR_prctl, PR_SET_KEEPCAPS, 1));
	own_stdio(o);
	must(STEP_GROUPS, call(__NR_setgroups, o->groups.n, at(o, o->groups.at)));
	must(STEP_GID, call(__NR_setgid, o->gid));
	must(STEP_UID, call(__NR_setuid, o->uid));
	if (entered < 0)
		must(STEP_CWD, call(__NR_chdir, cwd));
	// A directory outside of the container's root has a path that starts with "(unreachable)" (CVE-2024-21626).
	if (must(STEP_CWD_OUTSIDE, call(__NR_getcwd, path, sizeof(path))) < 1 || path[0] != '/')
		fail(STEP_CWD_OUTSIDE, -ENOENT);
	must(STEP_CAPABILITIES, call(__NR_prctl, PR_SET_KEEPCAPS, 0));
	set_capabilities(o);
}

// refused says why a file cannot be executed, as Go's exec.LookPath finds out; 0: it can.
static long refused(const char *path, enum step *step)
{
	struct stat st;
	long err = call(__NR_newfstatat, AT_FDCWD, path, &st, 0);

	*step = STEP_STAT;
	if (err < 0)
		return err;
	*step = STEP_ACCESS;
	if ((st.st_mode & S_IFMT) == S_IFDIR)
		return -EISDIR;
	err = call(__NR_faccessat2, AT_FDCWD, path, 1 /* X_OK */, AT_EACCESS);
	if (err != -ENOSYS && err != -EPERM) // not there, or forbidden by the filter
		return err;
	return st.st_mode & 0111 ? 0 : -EACCES;
}

static const char *find_program(const struct order *o)
{
	const uint32_t *programs = at(o, o->programs.at);

	for (uint32_t i = 0; i < o->programs.n; i++) {
		const char *path = at(o, programs[i]);
		enum step step;
		long err = refused(path, &step);

		if (!err && (o->flags & ORDER_SEARCH) && path[0] != '/')
			fail(STEP_DOT, -EINVAL);
		if (!err)
			return path;
		if (!(o->flags & ORDER_SEARCH))
			fail(step, err);
	}
	fail(STEP_SEARCH, -ENOENT);
}

// strings makes an array of the strings of a list, with room for one more.
static const char **strings(const struct order *o, struct list list)
{
	const uint32_t *offsets = at(o, list.at);
	const char **out = memory(STEP_ORDER, (list.n + 2) * sizeof(*out));

	for (uint32_t i = 0; i < list.n; i++)
		out[i] = at(o, offsets[i]);
	return out;
}

// complain tells the exec's client why the program was not executed. The shim has been told that all is well by then, as
// with libcontainer: the process ends with 255.
static __attribute__((noreturn)) void complain(const char *program, long err)
{
	static const struct { long err; const char *text; } known[] = {
		{ -ENOEXEC, "exec format error" }, { -EACCES, "permission denied" }, { -ENOENT, "no such file or directory" },
		{ -E2BIG, "argument list too long" }, { -ENOMEM, "cannot allocate memory" }, { -ETXTBSY, "text file busy" },
		{ -ELOOP, "too many levels of symbolic links" }, { -EINVAL, "invalid argument" }, { -EIO, "input/output error" },
		{ -EPERM, "operation not permitted" }, { -EAGAIN, "resource temporarily unavailable" }, { -ENOTDIR, "not a directory" },
	};
	const char *why = "the kernel refused it";

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].err == err)
			why = known[i].text;
	struct part line[] = {
		{ "exec ", 5 }, { program, length(program) }, { ": ", 2 }, { why, length(why) }, { "\n", 1 },
	};
	call(__NR_writev, 2, line, sizeof(line) / sizeof(line[0]));
	leave(255);
}

// process is stage 2, inside the container.
static __attribute__((noreturn)) void process(const struct order *o)
{
	const char **args, **env, *program;
	long err;

	join_cgroups(o);
	reset_affinity();
	must(STEP_SESSION, call(__NR_setsid));
	must(STEP_UID, call(__NR_setuid, 0));
	must(STEP_GID, call(__NR_setgid, 0));
	if (o->keyring) {
		err = call(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, at(o, o->keyring));
		if (err != -ENOSYS)
			must(STEP_KEYRING, err);
	}
	if (o->flags & ORDER_TERMINAL)
		open_terminal(o);
	args = strings(o, o->args);
	env = strings(o, o->env);
	if (o->flags & ORDER_HOME)
		env[o->env.n] = home(o);
	must(STEP_DESCRIPTORS, call(__NR_close_range, REPORTS, ~0U, CLOSE_RANGE_CLOEXEC));
	set_rlimits(o);
	if (o->flags & ORDER_NO_NEW_PRIVS)
		must(STEP_CAPABILITIES, call(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1));
	else
		load_filter(o); // needs a capability that is about to go
	become(o);
	program = find_program(o);
	if (o->flags & ORDER_NO_NEW_PRIVS)
		load_filter(o); // as late as can be: what comes next must be allowed by it
	call(__NR_close_range, REPORTS, ~0U, 0); // where the filter forbids it they close with the execution
	err = call(__NR_execve, program, args, env);
	complain(program, err);
}

// next makes the next stage: 0 in it, and in this one, once the shim knows its number, never.
static void next(uint32_t kind)
{
	long pid = must(STEP_CLONE, call(__NR_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0));

	if (!pid)
		return;
	report(kind, 0, pid);
	leave(0);
}

void enter(void)
{
	const struct order *o = read_order();

	// Whatever else the shim had open must not be there when the container's working directory is entered (CVE-2024-21626).
	must(STEP_DESCRIPTORS, call(__NR_close_range, GIVEN + o->tasks + !!(o->flags & ORDER_TERMINAL), ~0U, 0));
	write_oom_score(o); // the file is not ours any more once we cannot be dumped
	call(__NR_prctl, PR_SET_DUMPABLE, 0); // what is in the container must not look into, nor take over, who is joining it
	call(__NR_prctl, PR_SET_NAME, "triton-enter");
	next(REPORT_STAGE);
	allow_rlimits(o);
	must(STEP_NAMESPACES, o->namespaces ? call(__NR_setns, PIDFD, o->namespaces) : 0);
	call(__NR_close, PIDFD);
	next(REPORT_PROCESS);
	process(o);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall enter\n\thlt\n");
