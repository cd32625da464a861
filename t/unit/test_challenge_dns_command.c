/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "base/log.h"
#include "challenge/dns_command.h"
#include "run.h"
#include "scratch.h"

#define NAME "a.example"
#define FQDN "_acme-challenge.a.example."
#define VALUE "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define SECRET_LEN 60000
#define RUNS 50
#define THREADS 8
#define THREAD_RUNS 5
#define STEPS_MAX 1500      /* of 20 ms: how long anything is waited for */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static apr_pool_t *pool;
static char dir[SCRATCH_SIZE];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[4 * BASE_LOG_LINE_MAX];
static int logged_level;

static void receive(void *baton, int level, const char *line)
{
    (void)baton;
    pthread_mutex_lock(&log_lock);
    snprintf(logged, sizeof(logged), "%s", line);
    logged_level = level;
    pthread_mutex_unlock(&log_lock);
}

static int set_up(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    logged[0] = '\0';
    base_log_set(receive, NULL);
    return scratch_make(dir);
}

static int tear_down(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return scratch_remove(dir);
}

static const char *path_of(const char *name)
{
    return apr_psprintf(pool, "%s/%s", dir, name);
}

static const char *write_file(const char *name, const char *text, mode_t mode)
{
    const char *path = path_of(name);
    FILE *out = fopen(path, "w");

    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

/* A program for sh, which finds the test's directory in $D. */
static const char *write_script(const char *name, const char *text)
{
    return write_file(name, apr_pstrcat(pool, "#!/bin/sh\nD=", dir, "\n", text, "\n", NULL), 0755);
}

static const char *read_text(const char *name)
{
    char *text = apr_pcalloc(pool, 100000);
    FILE *in = fopen(path_of(name), "r");

    if (in) {
        size_t len = fread(text, 1, 99999, in);

        text[len] = '\0';
        fclose(in);
    }
    return text;
}

static challenge_dns_command_run_t about(const char *action)
{
    challenge_dns_command_run_t run = { action, NAME, FQDN, VALUE };

    return run;
}

static apr_status_t run_full(const challenge_dns_command_t *command, const base_stop_t *stop,
                             base_error_t *err)
{
    challenge_dns_command_run_t run = about("present");

    base_error_clear(err);
    return challenge_dns_command_run(command, &run, stop, pool, err);
}

/* One script without anything else. */
static apr_status_t run_script(const char *text, apr_interval_time_t timeout, base_error_t *err)
{
    const char *argv[] = { write_script("script", text), NULL };
    challenge_dns_command_t command = { argv, NULL, NULL, 0, timeout };

    return run_full(&command, NULL, err);
}

static void succeed(const char *text)
{
    base_error_t err;

    if (run_script(text, 0, &err) != APR_SUCCESS)
        fail_msg("%s: %s", text, err.detail);
}

static void break_down(const char *text, apr_interval_time_t timeout, base_error_t *err)
{
    if (run_script(text, timeout, err) == APR_SUCCESS)
        fail_msg("%s: no error", text);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" has no \"%s\"", text, part);
}

/* Non-zero when a process is there and no zombie. */
static int lives(long pid)
{
    char text[512] = "";
    const char *end;
    FILE *in = fopen(apr_psprintf(pool, "/proc/%ld/stat", pid), "r");

    if (!in)
        return 0;
    if (!fgets(text, sizeof(text), in))
        text[0] = '\0';
    fclose(in);
    end = strrchr(text, ')');
    return end && end[1] == ' ' && end[2] != 'Z' && end[2] != 'X';
}

static int dies(long pid)
{
    for (int i = 0; i < STEPS_MAX; i++) {
        if (!lives(pid))
            return 1;
        apr_sleep(20000);
    }
    return 0;
}

static int exists(const char *path)
{
    for (int i = 0; i < STEPS_MAX; i++) {
        if (access(path, F_OK) == 0)
            return 1;
        apr_sleep(20000);
    }
    return 0;
}

static int count_fds(void)
{
    DIR *fds = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(fds);
    while (readdir(fds))
        n++;
    closedir(fds);
    return n;
}

static int has_children(void)
{
    return waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD;
}

/* In a process of its own. */
static void apart(int (*check)(void))
{
    int status = -1;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(check());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* From now on these system calls fail. */
static int forbid(int error, int a, int b)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)a, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)b, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)error)
    };
    struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
           && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void test_arguments(void **state)
{
    const char *argv[] = { write_script("script", "printf '[%s]' \"$@\" >$D/arguments"), "a b", "", "--x",
                           "$(id)", NULL };
    challenge_dns_command_t command = { argv, NULL, NULL, 0, 0 };
    challenge_dns_command_run_t run = { "cleanup", "*.xn--bcher-kva.1-2.example",
                                        "_acme-challenge._a-.x_y.xn--bcher-kva.1-2.example.", "-n_-" };
    base_error_t err;

    (void)state;
    assert_int_equal(challenge_dns_command_run(&command, &run, NULL, pool, &err), APR_SUCCESS);
    assert_string_equal(read_text("arguments"), "[a b][][--x][$(id)][cleanup]"
                        "[_acme-challenge._a-.x_y.xn--bcher-kva.1-2.example.][-n_-]");
    assert_int_equal(logged_level, BASE_LOG_INFO);
    assert_has(logged, "AC0250: autocert: *.xn--bcher-kva.1-2.example (*.b\xc3\xbc" "cher.1-2.example): ");
    assert_has(logged, "printed nothing; the record is removed");
}

static void test_what_is_refused(void **state)
{
    static const challenge_dns_command_run_t wrong[] = {
        { "remove", NAME, FQDN, VALUE }, { NULL, NAME, FQDN, VALUE }, { "", NAME, FQDN, VALUE },
        { "present", NAME, "a.example.", VALUE }, { "present", NAME, "_acme-challenge.a.example", VALUE },
        { "present", NAME, "_a.b c.", VALUE }, { "present", NAME, "_a;id.", VALUE },
        { "present", NAME, "_a\n.", VALUE }, { "present", NAME, "_a..b.", VALUE },
        { "present", NAME, NULL, VALUE },
        { "present", NAME, "", VALUE }, { "present", NAME, "_", VALUE }, { "present", NAME, "_*.a.", VALUE },
        { "present", NAME, FQDN, "" }, { "present", NAME, FQDN, NULL }, { "present", NAME, FQDN, "a b" },
        { "present", NAME, FQDN, "a=" }, { "present", NAME, FQDN, "a+b" }, { "present", NAME, FQDN, "a\"b" },
        { "present", "", FQDN, VALUE }, { "present", NULL, FQDN, VALUE }, { "present", "a\nb", FQDN, VALUE }
    };
    const char *argv[] = { write_script("script", "touch $D/ran"), NULL };
    challenge_dns_command_t command = { argv, NULL, NULL, 0, 0 };
    base_error_t err;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_not_equal(challenge_dns_command_run(&command, &wrong[i], NULL, pool, &err), APR_SUCCESS);
        assert_int_equal(err.kind, BASE_ERROR_LOCAL);
        assert_has(err.detail, "was not run: ");
    }
    command.secret = VALUE;
    command.secret_len = CHALLENGE_DNS_COMMAND_SECRET_MAX + 1;
    assert_true(run_full(&command, NULL, &err) != APR_SUCCESS);
    assert_has(err.detail, "secret is too long");
    assert_int_equal(access(path_of("ran"), F_OK), -1);
}

static void test_environment(void **state)
{
    const char *text;

    (void)state;
    setenv("AUTOCERT_TEST_LEAK", "x", 1);
    succeed("cat /proc/$$/environ >$D/env; pwd >$D/cwd; umask >$D/umask\n"
                                "cut -d' ' -f1,5 /proc/$$/stat >$D/group; echo $$ $$ >$D/pid");
    unsetenv("AUTOCERT_TEST_LEAK");
    text = read_text("env");
    assert_string_equal(text, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_memory_equal(text + strlen(text) + 1, "LANG=C\0AUTOCERT_NAME=" NAME "\0", 32);
    assert_string_equal(read_text("cwd"), "/\n");
    assert_string_equal(read_text("umask"), "0077\n");
    assert_string_equal(read_text("group"), read_text("pid"));
}

/* Those of the C library's own (32, 33) are whatever this process was started with: no call changes them. */
#define OWN_SIGNALS 0x180000000ULL

static unsigned long long read_signals(const char *what)
{
    return strtoull(strstr(read_text("signals"), what) + strlen(what), NULL, 16) & ~OWN_SIGNALS;
}

static void test_signals_are_reset(void **state)
{
    sigset_t mask, before, after;

    (void)state;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &mask, &before);
    signal(SIGPIPE, SIG_IGN);
    succeed("exec grep -E '^Sig(Blk|Ign)' /proc/self/status >$D/signals");
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &before, &after);
    assert_int_equal(read_signals("SigBlk:"), 0);
    assert_int_equal(read_signals("SigIgn:"), 0);
    assert_true(sigismember(&after, SIGUSR1));
    assert_false(sigismember(&after, SIGINT));
}

static int sees_descriptors(void)
{
    base_error_t err;

    if (run_script("for n in 3 4 5 6 7 8 9 50 51 200; do [ ! -e /proc/$$/fd/$n ] || echo $n; done >$D/open; "
                   "exit 0", 0, &err) != APR_SUCCESS)
        return 2;
    return access(path_of("open"), F_OK) != 0 || read_text("open")[0] ? 3 : 0;
}

/* Descriptors that exec would not close. */
static int sees_open_descriptors(void)
{
    return dup2(0, 50) < 0 || dup2(0, 51) < 0 || dup2(0, 200) < 0 ? 1 : sees_descriptors();
}

/* The limit may have been lowered since they were opened. */
static int sees_open_descriptors_without_close_range(void)
{
    struct rlimit limit = { 100, 100 };

    if (sees_open_descriptors() != 0)
        return 8;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || !forbid(ENOSYS, SYS_close_range, SYS_close_range))
        return 9;
    return sees_descriptors();
}

static int sees_open_descriptors_without_a_list(void)
{
    return forbid(ENOSYS, SYS_close_range, SYS_getdents64) ? sees_open_descriptors() : 9;
}

static int misses_standard_descriptors(void)
{
    const char *argv[] = { write_script("script", "cat >$D/in; echo out; echo err >&2; exit 4"), NULL };
    challenge_dns_command_t command = { argv, NULL, "secret", 6, 0 };
    base_error_t err;

    close(0);
    close(1);
    close(2);
    close(3);
    if (run_full(&command, NULL, &err) == APR_SUCCESS)
        return 1;
    return strcmp(read_text("in"), "secret") != 0 || !strstr(logged, "\"out | err\"");
}

static void test_descriptors(void **state)
{
    (void)state;
    apart(sees_open_descriptors);
    apart(sees_open_descriptors_without_close_range);
    apart(sees_open_descriptors_without_a_list);
    apart(misses_standard_descriptors);
}

static void test_secret(void **state)
{
    const char *argv[] = { write_script("script", "cat >$D/in"), NULL };
    char *secret = apr_pcalloc(pool, SECRET_LEN + 1);
    challenge_dns_command_t command = { argv, NULL, secret, SECRET_LEN, 0 };
    base_error_t err;

    (void)state;
    memset(secret, 's', SECRET_LEN);
    assert_int_equal(run_full(&command, NULL, &err), APR_SUCCESS);
    assert_string_equal(read_text("in"), secret);
    argv[0] = write_script("deaf", "exit 0");
    assert_int_equal(run_full(&command, NULL, &err), APR_SUCCESS);
    argv[0] = write_script("writer", "! (echo x >&0) 2>/dev/null"
                           " && ! (echo x >>/proc/self/fd/0) 2>/dev/null");
    assert_int_equal(run_full(&command, NULL, &err), APR_SUCCESS);
    command.secret = NULL;
    argv[0] = write_script("none", "wc -c >$D/in; [ -c /proc/$$/fd/0 ]");
    assert_int_equal(run_full(&command, NULL, &err), APR_SUCCESS);
    assert_int_equal(strtol(read_text("in"), NULL, 10), 0);
}

static void test_output(void **state)
{
    base_error_t err;

    (void)state;
    succeed("echo one; echo; printf 't\\033w\\000o\\r\\n' >&2; echo three");
    assert_has(logged, "printed \"one | t?w o  | three\"; the record is set");
    assert_int_equal(logged_level, BASE_LOG_INFO);
    succeed("for n in 1 2 3 4 5 6 7 8 9 10 11; do echo $n; done");
    assert_has(logged, "9 | 10 ...\" (24 bytes in all)");
    break_down("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo; "
               "echo the last line; exit 3", 0, &err);
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
    assert_has(err.detail, "/script ended with exit status 3: the last line");
    assert_has(logged, "AC0251");
    assert_has(logged, "(3000016 bytes in all)");
    assert_int_equal(logged_level, BASE_LOG_WARNING);
}

static void test_exit_status(void **state)
{
    static const struct {
        const char *script, *detail;
    } cases[] = {
        { "echo why; exit 1", "ended with exit status 1: why" },
        { "exit 7", "ended with exit status 7" },
        { "exit 126", "status 126, which often means that a program it calls cannot be executed" },
        { "exec missing-program", "status 127, which often means that a program it calls was not" },
        { "printf partial; kill -9 $$", "was killed by signal 9 (Killed): partial" },
        { "kill -SEGV $$", "was killed by signal 11" }
    };
    base_error_t err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        break_down(cases[i].script, 0, &err);
        assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
        assert_has(err.detail, cases[i].detail);
        assert_has(logged, "AC0251: autocert: " NAME ": ");
        assert_has(logged, "; this try fails, another one follows later");
    }
}

static void test_cannot_be_started(void **state)
{
    const char *argv[] = { path_of("missing"), NULL };
    challenge_dns_command_t command = { argv, NULL, NULL, 0, 0 };
    base_error_t err;

    (void)state;
    assert_true(run_full(&command, NULL, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    assert_has(err.detail, "/missing cannot be started: No such file");
    argv[0] = write_file("plain", "#!/bin/sh\n", 0644);
    assert_true(run_full(&command, NULL, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    assert_has(err.detail, "/plain cannot be started: Permission denied");
    argv[0] = write_file("odd", "#!/no/such/shell\n", 0755);
    assert_true(run_full(&command, NULL, &err) != APR_SUCCESS);
    assert_has(err.detail, "/odd cannot be started: No such file");
    argv[0] = write_file("format", "\1\2\3", 0755);
    assert_true(run_full(&command, NULL, &err) != APR_SUCCESS);
    assert_has(err.detail, "/format cannot be started: Exec format error");
    argv[0] = "script";
    assert_true(run_full(&command, NULL, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    assert_has(err.detail, "not an absolute path");
    assert_string_equal(logged, "");
    assert_false(has_children());
}

static void test_timeout(void **state)
{
    base_error_t err;

    (void)state;
    break_down("echo begun; sleep 300", 300000, &err);
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
    assert_has(err.detail, "did not end within 300 ms and was ended: begun");
    assert_has(logged, "AC0251");
    assert_has(logged, "it printed \"begun\"");
    break_down("trap '' TERM; echo $$ >$D/pid; while :; do sleep 1; done", 300000, &err);
    assert_has(err.detail, "did not end within 300 ms and was ended");
    assert_true(dies(strtol(read_text("pid"), NULL, 10)));
    /* output without end does not hide the deadline */
    break_down("exec yes", 300000, &err);
    assert_has(err.detail, "was ended: y");
    assert_false(has_children());
}

static void test_sigterm_lets_it_tidy_up(void **state)
{
    base_error_t err;

    (void)state;
    break_down("trap 'touch $D/tidy; exit 0' TERM; sleep 300 & wait", 300000, &err);
    assert_has(err.detail, "did not end within 300 ms and was ended");
    assert_int_equal(access(path_of("tidy"), F_OK), 0);
}

static void test_what_it_leaves_behind(void **state)
{
    long pid;

    (void)state;
    succeed("sleep 300 & echo $! >$D/pid; echo x");
    assert_has(logged, "it left processes behind, they were ended");
    pid = strtol(read_text("pid"), NULL, 10);
    assert_true(pid > 1);
    assert_true(dies(pid));
    succeed("exit 0");
    assert_null(strstr(logged, "left processes behind"));
}

/* One that left the group as well and holds the pipe: its end is not waited for. */
static void test_what_holds_its_output(void **state)
{
    long pid;

    (void)state;
    succeed("echo before\n"
            "setsid sh -c 'echo $$ >'$D'/new; mv '$D'/new '$D'/pid; exec sleep 300' &\n"
                                "while [ ! -e $D/pid ]; do sleep 0.02; done; echo after");
    pid = strtol(read_text("pid"), NULL, 10);
    assert_true(pid > 1);
    assert_true(lives(pid));
    kill((pid_t)pid, SIGKILL);
    assert_has(logged, "\"before | after\"");
}

static void *raise_when_started(void *stop)
{
    char path[SCRATCH_SIZE + 16];

    snprintf(path, sizeof(path), "%s/started", dir);
    if (exists(path))
        base_stop_raise(stop);
    return NULL;
}

static void test_stop(void **state)
{
    const char *argv[] = { write_script("script", "echo $$ >$D/pid; touch $D/started; sleep 300"), NULL };
    challenge_dns_command_t command = { argv, NULL, NULL, 0, 0 };
    base_stop_t *stop = NULL;
    base_error_t err;
    pthread_t thread;
    challenge_dns_command_run_t run = about("present");
    apr_pool_t *own;

    (void)state;
    apr_pool_create(&own, NULL);
    assert_int_equal(base_stop_create(&stop, own), APR_SUCCESS);
    assert_int_equal(pthread_create(&thread, NULL, raise_when_started, stop), 0);
    assert_true(challenge_dns_command_run(&command, &run, stop, own, &err) != APR_SUCCESS);
    pthread_join(thread, NULL);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
    assert_true(dies(strtol(read_text("pid"), NULL, 10)));
    assert_int_equal(logged_level, BASE_LOG_INFO);
    assert_has(logged, "AC0251");
    assert_has(logged, "the order goes on in another child");
    /* and from then on nothing is run */
    remove(path_of("started"));
    assert_true(run_full(&command, stop, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
    assert_int_equal(access(path_of("started"), F_OK), -1);
    apr_pool_destroy(own);
}

static void test_nothing_is_left(void **state)
{
    const char *argv[] = { write_script("script", "echo x; exit 0"), NULL };
    const char *bad[] = { path_of("missing"), NULL };
    challenge_dns_command_t command = { argv, NULL, "secret", 6, 0 };
    int before = count_fds();
    base_error_t err;

    (void)state;
    for (int i = 0; i < RUNS; i++) {
        command.argv = i % 5 == 4 ? bad : argv;
        assert_int_equal(run_full(&command, NULL, &err) == APR_SUCCESS, command.argv == argv);
    }
    assert_int_equal(count_fds(), before);
    assert_false(has_children());
}

static int has_no_pidfd(void)
{
    base_error_t err;

    return !forbid(ENOSYS, SYS_pidfd_open, SYS_pidfd_open)
           || run_script("exec >&- 2>&-; sleep 0.1; exit 0", 0, &err) != APR_SUCCESS
           || run_script("sleep 300", 200000, &err) == APR_SUCCESS || !strstr(err.detail, "was ended")
           || has_children();
}

static int ignores_sigchld(void)
{
    base_error_t err;

    signal(SIGCHLD, SIG_IGN);
    return run_script("exit 0", 0, &err) == APR_SUCCESS || err.kind != BASE_ERROR_LOCAL
           || !strstr(err.detail, "ignores SIGCHLD");
}

static int lacks_descriptors(void)
{
    struct rlimit limit = { 6, 6 };
    base_error_t err;

    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    return run_script("exit 0", 0, &err) == APR_SUCCESS || err.kind != BASE_ERROR_LOCAL
           || !strstr(err.detail, "Too many open files") || has_children();
}

static int cannot_fork(void)
{
    int before = count_fds();
    base_error_t err;

    if (!forbid(EAGAIN, SYS_clone, SYS_clone))
        return 1;
    if (run_script("exit 0", 0, &err) == APR_SUCCESS || err.kind != BASE_ERROR_LOCAL)
        return 2;
    return strstr(err.detail, "cannot be started: Resource temp") && count_fds() == before ? 0 : 3;
}

/* As when the program has become another user: it is given up, and reaped by a later run. */
static int cannot_kill(void)
{
    base_error_t err;

    if (!forbid(EPERM, SYS_kill, SYS_kill))
        return 1;
    if (run_script("while [ ! -e $D/go ]; do sleep 0.05; done", 100000, &err) == APR_SUCCESS)
        return 2;
    if (!strstr(err.detail, "did not end within 100 ms and cannot be ended"))
        return 3;
    write_file("go", "", 0644);
    for (int i = 0; i < STEPS_MAX; i++) {
        siginfo_t info;

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
            return 4;
        if (info.si_pid != 0)
            break;
        apr_sleep(20000);
    }
    return run_script("exit 0", 0, &err) != APR_SUCCESS || has_children() ? 5 : 0;
}

static void test_odd_surroundings(void **state)
{
    (void)state;
    apart(has_no_pidfd);
    apart(ignores_sigchld);
    apart(lacks_descriptors);
    apart(cannot_fork);
    apart(cannot_kill);
}

typedef struct worker_t {
    const char *program;
    int number;
    int failed;
} worker_t;

static void *run_many(void *baton)
{
    worker_t *worker = baton;
    apr_pool_t *own;

    apr_pool_create(&own, NULL);
    for (int i = 0; i < THREAD_RUNS; i++) {
        const char *argv[] = { worker->program, apr_psprintf(own, "%d", worker->number), NULL };
        const char *secret = apr_psprintf(own, "secret-%d", worker->number);
        challenge_dns_command_t command = { argv, NULL, secret, strlen(secret), 0 };
        challenge_dns_command_run_t run = about("present");
        base_error_t err;

        base_error_clear(&err);
        challenge_dns_command_run(&command, &run, NULL, own, &err);
        worker->failed |= !strstr(err.detail, apr_psprintf(own, "exit status %d: %s", worker->number + 1,
                                                           secret));
    }
    apr_pool_destroy(own);
    return NULL;
}

static void test_threads(void **state)
{
    const char *program = write_script("script", "cat; echo; exit $(($1 + 1))");
    pthread_t threads[THREADS];
    worker_t workers[THREADS];
    int before = count_fds();

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker_t){ program, i, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(workers[i].failed);
    }
    assert_int_equal(count_fds(), before);
    assert_false(has_children());
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_arguments),
        WITH_DIR(test_what_is_refused),
        WITH_DIR(test_environment),
        WITH_DIR(test_signals_are_reset),
        WITH_DIR(test_descriptors),
        WITH_DIR(test_secret),
        WITH_DIR(test_output),
        WITH_DIR(test_exit_status),
        WITH_DIR(test_cannot_be_started),
        WITH_DIR(test_timeout),
        WITH_DIR(test_sigterm_lets_it_tidy_up),
        WITH_DIR(test_what_it_leaves_behind),
        WITH_DIR(test_what_holds_its_output),
        WITH_DIR(test_stop),
        WITH_DIR(test_nothing_is_left),
        WITH_DIR(test_odd_surroundings),
        WITH_DIR(test_threads)
    };

    return RUN_TESTS(tests);
}
