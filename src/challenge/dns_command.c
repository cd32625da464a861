/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/dns_command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <apr_strings.h>

#include "base/base64url.h"
#include "base/hostname.h"
#include "base/log.h"

/* Headers may be older than the kernel; these numbers are the same on all machines. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

#define PATH_ENV "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define VALUE_MAX 255           /* letters; SHA-256 has 43 */
#define FQDN_MAX (BASE_HOSTNAME_MAX + 1)        /* with the dot at the end */
#define STEP_MSEC 20            /* between two looks at a process that cannot be waited for in poll() */
#define REPORT_FD 3             /* in the child: tells the parent why exec failed, closed by exec */
#define FIRST_FD (REPORT_FD + 1)        /* below are those of the child */
#define FDS_MAX (1 << 20)       /* tried one by one where nothing lists them: the kernel's usual bound */
#define LAST_LINE_MAX 200       /* bytes with the NUL */
#define READ_SIZE 4096          /* bytes at a time */
#define LOG_LINES_MAX 10
#define LOG_TEXT_MAX 640        /* bytes with the NUL, of output in one line of the log */
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define LOST_MAX 32             /* processes that could not be ended, to be reaped when they have */

/* What wait_for_end() is doing. */
typedef enum { RUNNING, ASKED_TO_END, KILLED } phase_t;

/* Why a process was ended. */
typedef enum { BY_ITSELF, BY_TIMEOUT, BY_STOP } cause_t;

/* One run, as the parent sees it. */
typedef struct process_t {
    int in, out, report;        /* the parent's ends; -1: closed */
    int child_out, child_report;        /* the child's ends, open until it runs */
    int pidfd;                  /* -1: the kernel has none */
    pid_t pid;
    int ended;
    int lost;                   /* it cannot be ended */
    int unknown;                /* someone else has its status */
    int status;                 /* of waitpid() */
    int left_behind;            /* there were others in its group */
    cause_t cause;
    apr_interval_time_t began, took;    /* read_clock() */
    apr_size_t kept;            /* bytes of output[] */
    apr_uint64_t dropped;
    char output[CHALLENGE_DNS_COMMAND_OUTPUT_MAX + 1];
    apr_size_t line_len;
    char line[LAST_LINE_MAX];   /* being printed */
    char last_line[LAST_LINE_MAX];      /* that was not empty */
} process_t;

/* What the child needs, all made before fork(). */
typedef struct image_t {
    const char **argv;
    const char **env;
    int in, out, report;
} image_t;

/* Pids of processes that outlived their SIGKILL: they changed their user, or hang in the kernel. 0: free. */
static pid_t lost[LOST_MAX];

/* Microseconds of a clock that nobody sets. */
static apr_interval_time_t read_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (apr_interval_time_t)ts.tv_sec * APR_USEC_PER_SEC + ts.tv_nsec / 1000;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --- in the child: between fork() and exec only what a signal handler may do --- */

/* The kernel's own form: readdir() would allocate. */
typedef struct entry_t {
    apr_uint64_t inode;
    apr_int64_t offset;
    unsigned short len;
    unsigned char type;
    char name[];
} entry_t;

/* @return the number, -1 when it is none */
static int read_number(const char *text)
{
    int number = 0;

    for (; *text; text++) {
        if (*text < '0' || *text > '9' || number > (INT_MAX - 9) / 10)
            return -1;
        number = number * 10 + (*text - '0');
    }
    return number;
}

/* @return zero when /proc cannot tell which there are */
static int close_listed(int first)
{
    union { entry_t align; char bytes[2048]; } buffer;
    int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), seen = 0;
    long len;

    if (dir < 0)
        return 0;
    while ((len = syscall(SYS_getdents64, dir, buffer.bytes, sizeof(buffer.bytes))) > 0) {
        for (long at = 0; at < len;) {
            const entry_t *entry = (const entry_t *)(const void *)(buffer.bytes + at);
            int fd = read_number(entry->name);

            seen = 1;
            if (fd >= first && fd != dir)
                close(fd);
            at += entry->len;
        }
    }
    close(dir);
    return seen && len == 0;
}

static void close_from(int first)
{
    struct rlimit limit;
    int end = FDS_MAX;

    if (syscall(SYS_close_range, (unsigned int)first, ~0U, 0U) == 0 || close_listed(first))
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)end)
        end = (int)limit.rlim_cur;
    for (int fd = first; fd < end; fd++)
        close(fd);
}

/* Ignored signals would stay ignored after exec, blocked ones blocked. */
static void reset_signals(void)
{
    struct sigaction action;
    sigset_t none;

    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become(const image_t *image) __attribute__((noreturn));
static void become(const image_t *image)
{
    int failed = 0;
    ssize_t ignored;

    setpgid(0, 0);
    if (dup2(image->in, 0) < 0 || dup2(image->out, 1) < 0 || dup2(image->out, 2) < 0
        || dup3(image->report, REPORT_FD, O_CLOEXEC) < 0 || chdir("/") != 0)
        failed = errno;
    if (!failed) {
        close_from(FIRST_FD);
        umask(077);
        reset_signals();
        execve(image->argv[0], (char *const *)image->argv, (char *const *)image->env);
        failed = errno;
        ignored = write(REPORT_FD, &failed, sizeof(failed));
    }
    else {
        ignored = write(image->report, &failed, sizeof(failed));
    }
    (void)ignored;
    _exit(127);
}

/* --- before it --------------------------------------------------------------- */

/* Above the child's own numbers, so that dup2() there overwrites none that is still needed. */
static int lift(int *fd)
{
    int higher;

    if (*fd < 0 || *fd >= FIRST_FD)
        return *fd >= 0;
    higher = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FD);
    if (higher < 0)
        return 0;
    close(*fd);
    *fd = higher;
    return 1;
}

static int make_pipe(int *ours, int *theirs)
{
    int fd[2];

    if (pipe2(fd, O_CLOEXEC) != 0)
        return 0;
    *ours = fd[0];
    *theirs = fd[1];
    return lift(ours) && lift(theirs) && fcntl(*ours, F_SETFL, O_NONBLOCK) == 0;
}

/* The secret as a file in memory: nobody has to write while the program reads, or does not. */
static int open_input(const char *secret, apr_size_t len)
{
    int fd = -1;
    apr_size_t written = 0;

    if (!secret) {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    else {
        /* Hardened kernels want the newer flag, older ones do not know it. */
        fd = memfd_create("autocert", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL)
            fd = memfd_create("autocert", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        while (fd >= 0 && written < len) {
            ssize_t n = write(fd, secret + written, len - written);

            if (n > 0)
                written += (apr_size_t)n;
            else if (n == 0 || errno != EINTR)
                close_fd(&fd);
        }
        if (fd >= 0 && (lseek(fd, 0, SEEK_SET) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0))
            close_fd(&fd);
    }
    if (fd >= 0 && !lift(&fd))
        close_fd(&fd);
    return fd;
}

static int is_fqdn(const char *fqdn)
{
    size_t len = fqdn ? strlen(fqdn) : 0;

    return len > 1 && len <= FQDN_MAX && fqdn[0] == '_' && fqdn[len - 1] == '.' && !strstr(fqdn, "..")
           && strspn(fqdn, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

/* Names come from the configuration or a client, values from a CA and a key: nothing gets to the program that
 * was not looked at. */
static apr_status_t check(const challenge_dns_command_t *command, const challenge_dns_command_run_t *run,
                          base_error_t *err)
{
    const char *wrong = NULL;

    if (!command->argv || !command->argv[0] || command->argv[0][0] != '/')
        wrong = "its program is not an absolute path";
    else if (command->secret && command->secret_len > CHALLENGE_DNS_COMMAND_SECRET_MAX)
        wrong = "its secret is too long";
    else if (!run->action || (strcmp(run->action, CHALLENGE_DNS_COMMAND_PRESENT) != 0
                              && strcmp(run->action, CHALLENGE_DNS_COMMAND_CLEANUP) != 0))
        wrong = "the action is neither present nor cleanup";
    else if (!is_fqdn(run->fqdn))
        wrong = "the record's name is not one that DNS can have";
    else if (!run->value || !base_base64url_is_text(run->value, 1, VALUE_MAX))
        wrong = "the record's value is not base64url";
    else if (!run->name || !run->name[0] || strlen(run->name) > BASE_HOSTNAME_MAX
             || run->name[strcspn(run->name, " \t\r\n=\"\\")])
        wrong = "the name is not one that a certificate can have";
    if (!wrong)
        return APR_SUCCESS;
    return base_error_set(err, BASE_ERROR_LOCAL, APR_EINVAL, "AutocertDNSCommand was not run: %s", wrong);
}

static void make_image(image_t *image, const challenge_dns_command_t *command,
                       const challenge_dns_command_run_t *run, const process_t *process, apr_pool_t *pool)
{
    int n = 0;

    while (command->argv[n])
        n++;
    image->argv = apr_pcalloc(pool, (apr_size_t)(n + 4) * sizeof(*image->argv));
    memcpy(image->argv, command->argv, (apr_size_t)n * sizeof(*image->argv));
    image->argv[n] = run->action;
    image->argv[n + 1] = run->fqdn;
    image->argv[n + 2] = run->value;
    image->env = apr_pcalloc(pool, 4 * sizeof(*image->env));
    image->env[0] = PATH_ENV;
    image->env[1] = "LANG=C";
    image->env[2] = apr_pstrcat(pool, "AUTOCERT_NAME=", run->name, NULL);
    image->in = process->in;
    image->out = process->child_out;
    image->report = process->child_report;
}

/* @return zero with errno when there is no child */
static int start(process_t *process, const challenge_dns_command_t *command,
                 const challenge_dns_command_run_t *run, apr_pool_t *pool)
{
    image_t image;
    sigset_t all, before;
    int why;

    if (!make_pipe(&process->out, &process->child_out)
        || !make_pipe(&process->report, &process->child_report)
        || (process->in = open_input(command->secret, command->secret_len)) < 0)
        return 0;
    make_image(&image, command, run, process, pool);
    /* No handler of httpd may run in the child: it would write to pipes that both have. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    process->began = read_clock();
    process->pid = fork();
    if (process->pid == 0)
        become(&image);
    why = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close_fd(&process->in);
    close_fd(&process->child_out);
    close_fd(&process->child_report);
    if (process->pid < 0) {
        errno = why;
        return 0;
    }
    /* The child does so too, whoever is first; once it is the program this fails, and need not succeed. */
    setpgid(process->pid, process->pid);
    process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0U);
    return 1;
}

/* --- while it runs ------------------------------------------------------------ */

static void end_line(process_t *process)
{
    if (process->line_len == 0)
        return;
    process->line[process->line_len] = '\0';
    memcpy(process->last_line, process->line, process->line_len + 1);
    process->line_len = 0;
}

static void keep(process_t *process, const char *data, apr_size_t len)
{
    apr_size_t room = CHALLENGE_DNS_COMMAND_OUTPUT_MAX - process->kept, take = len < room ? len : room;

    memcpy(process->output + process->kept, data, take);
    process->kept += take;
    process->dropped += len - take;
    for (apr_size_t i = 0; i < len; i++) {
        if (data[i] == '\n')
            end_line(process);
        else if (process->line_len < sizeof(process->line) - 1 && data[i] != '\r')
            process->line[process->line_len++] = data[i] ? data[i] : ' ';
    }
}

/* Read once. @return zero when there is nothing now, or for ever */
static int read_output(process_t *process)
{
    char data[READ_SIZE];
    ssize_t n;

    if (process->out < 0)
        return 0;
    do {
        n = read(process->out, data, sizeof(data));
    } while (n < 0 && errno == EINTR);
    if (n > 0)
        keep(process, data, (apr_size_t)n);
    else if (n == 0 || errno != EAGAIN)
        close_fd(&process->out);
    return n > 0;
}

static void look(process_t *process)
{
    pid_t got;

    do {
        got = waitpid(process->pid, &process->status, WNOHANG);
    } while (got < 0 && errno == EINTR);
    process->ended = got != 0;
    process->unknown = got < 0;
}

/* Milliseconds until there is something to do without being woken, rounded up. */
static int to_poll_timeout(const process_t *process, apr_interval_time_t left)
{
    apr_interval_time_t ms = left <= 0 ? 0 : (left + 999) / 1000;

    if (process->pidfd < 0 && ms > STEP_MSEC)
        ms = STEP_MSEC;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void signal_group(const process_t *process, int sig)
{
    /* The group may not be there yet, or not any more. */
    if (kill(-process->pid, sig) != 0)
        kill(process->pid, sig);
}

/* Wait with poll() for output, the end, a raised stop or the deadline. */
static void wait_a_while(process_t *process, int stop_fd, apr_interval_time_t left)
{
    struct pollfd wait[3] = {
        { .fd = process->out, .events = POLLIN },
        { .fd = process->pidfd, .events = POLLIN },
        { .fd = stop_fd, .events = POLLIN }
    };
    int ready = poll(wait, 3, to_poll_timeout(process, left));

    if (ready < 0 && errno != EINTR)
        apr_sleep(apr_time_from_msec(STEP_MSEC));       /* poll() itself lacks memory */
    if (ready > 0 && wait[0].revents)
        read_output(process);
    look(process);
}

static void wait_for_end(process_t *process, apr_interval_time_t timeout, const base_stop_t *stop)
{
    apr_interval_time_t deadline = process->began + timeout;
    phase_t phase = RUNNING;

    while (!process->ended && !process->lost) {
        apr_interval_time_t now = read_clock();
        int stopped = phase == RUNNING && base_stop_is_raised(stop);

        if (now < deadline && !stopped) {
            wait_a_while(process, phase == RUNNING ? base_stop_fd(stop) : -1, deadline - now);
            continue;
        }
        if (phase == RUNNING) {
            process->cause = stopped ? BY_STOP : BY_TIMEOUT;
            signal_group(process, SIGTERM);
        }
        else if (phase == ASKED_TO_END) {
            signal_group(process, SIGKILL);
        }
        else {
            process->lost = 1;
        }
        phase = phase == RUNNING ? ASKED_TO_END : KILLED;
        deadline = now + CHALLENGE_DNS_COMMAND_GRACE;
    }
    process->took = read_clock() - process->began;
}

/* Others of the group go with their leader. The number of an empty group could belong to a new one only if
 * all numbers of processes were given away since waitpid(). */
static void end_group(process_t *process)
{
    if (process->ended)
        process->left_behind = kill(-process->pid, SIGKILL) == 0;
}

/* What is in the pipe was written before the end; what processes elsewhere still write is not waited for. */
static void read_rest(process_t *process)
{
    int most = (1 << 20) / READ_SIZE;   /* the largest pipe that a user may make */

    while (most-- > 0 && read_output(process))
        ;
    end_line(process);
    process->output[process->kept] = '\0';
}

/* --- processes that cannot be ended ------------------------------------------- */

static void remember_lost(pid_t pid)
{
    for (int i = 0; i < LOST_MAX; i++) {
        pid_t none = 0;

        if (__atomic_compare_exchange_n(&lost[i], &none, pid, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return;
    }
}

static void reap_lost(void)
{
    for (int i = 0; i < LOST_MAX; i++) {
        pid_t pid = __atomic_exchange_n(&lost[i], 0, __ATOMIC_SEQ_CST);

        /* Taken out first: once it is reaped, another process may have the number. */
        if (pid != 0 && waitpid(pid, NULL, WNOHANG) == 0)
            remember_lost(pid);
    }
}

/* --- afterwards ---------------------------------------------------------------- */

/* The first lines, as one. */
static const char *join_output(const process_t *process, apr_pool_t *pool)
{
    char text[LOG_TEXT_MAX];
    char *joined = apr_pstrdup(pool, ""), *copy = apr_pstrmemdup(pool, process->output, process->kept);
    char *at = copy, *end = copy + process->kept;
    int lines = 0;

    for (char *c = copy; c < end; c++) {
        if (*c == '\0' || *c == '\r')
            *c = ' ';
    }
    while (at < end && lines < LOG_LINES_MAX) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        apr_size_t len = (apr_size_t)((stop ? stop : end) - at);

        if (len > 0)
            joined = apr_pstrcat(pool, joined, lines++ ? " | " : "", apr_pstrmemdup(pool, at, len), NULL);
        at += len + (stop != NULL);
    }
    base_error_copy_text(text, sizeof(text), joined);
    if (at < end || process->dropped > 0 || strlen(joined) >= sizeof(text))
        return apr_psprintf(pool, "\"%s ...\" (%" APR_UINT64_T_FMT " bytes in all)", text,
                            process->kept + process->dropped);
    return text[0] ? apr_psprintf(pool, "\"%s\"", text) : "nothing";
}

static const char *explain_status(const process_t *process, apr_pool_t *pool)
{
    int status = process->status;

    if (WIFSIGNALED(status))
        return apr_psprintf(pool, "was killed by signal %d (%s)", WTERMSIG(status),
                            strsignal(WTERMSIG(status)));
    switch (WEXITSTATUS(status)) {
    case 126:
        return "ended with exit status 126, which often means that a program it calls cannot be executed";
    case 127:
        return "ended with exit status 127, which often means that a program it calls was not found in PATH";
    default:
        return apr_psprintf(pool, "ended with exit status %d", WEXITSTATUS(status));
    }
}

/* What it did wrong, as the end of a sentence; NULL when nothing. */
static const char *explain(const process_t *process, apr_interval_time_t timeout, apr_pool_t *pool)
{
    if (process->cause == BY_STOP && process->lost)
        return "did not end when this child was asked to stop, and cannot be ended";
    if (process->cause == BY_STOP)
        return "was ended, as this child is asked to stop";
    if (process->cause == BY_TIMEOUT)
        return apr_psprintf(pool, "did not end within %" APR_TIME_T_FMT " %s and %s",
                            timeout % APR_USEC_PER_SEC ? apr_time_as_msec(timeout) : apr_time_sec(timeout),
                            timeout % APR_USEC_PER_SEC ? "ms" : "s",
                            process->lost ? "cannot be ended" : "was ended");
    if (process->unknown)
        return "ended, but with what status is unknown: this process ignores SIGCHLD, or something in it"
               " takes the status of all its children";
    if (WIFEXITED(process->status) && WEXITSTATUS(process->status) == 0)
        return NULL;
    return explain_status(process, pool);
}

static void write_log(const process_t *process, const challenge_dns_command_t *command,
                      const challenge_dns_command_run_t *run, const char *wrong, apr_pool_t *pool)
{
    int presents = strcmp(run->action, CHALLENGE_DNS_COMMAND_PRESENT) == 0;
    const char *left = process->left_behind ? "; it left processes behind, they were ended" : "";
    const char *next;

    if (!wrong) {
        next = presents ? "the record is set as far as it says" : "the record is removed as far as it says";
        base_log(BASE_LOG_INFO, "AC0250", run->name, "%s %s %s was done within %.1f s and printed %s%s; %s",
                 command->argv[0], run->action, run->fqdn, (double)process->took / APR_USEC_PER_SEC,
                 join_output(process, pool), left, next);
        return;
    }
    if (process->cause == BY_STOP)
        next = "the order goes on in another child";
    else
        next = presents ? "this try fails, another one follows later" : "the record may be left over";
    base_log(process->cause == BY_STOP ? BASE_LOG_INFO : BASE_LOG_WARNING, "AC0251", run->name,
             "%s %s %s %s; it printed %s%s; %s", command->argv[0], run->action, run->fqdn, wrong,
             join_output(process, pool), left, next);
}

static apr_status_t judge(const process_t *process, const challenge_dns_command_t *command, const char *wrong,
                          base_error_t *err)
{
    base_error_kind_t kind = BASE_ERROR_VALIDATION;

    if (!wrong)
        return APR_SUCCESS;
    if (process->cause == BY_STOP)
        return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "%s %s", command->argv[0], wrong);
    if (process->cause == BY_ITSELF && process->unknown)
        kind = BASE_ERROR_LOCAL;
    return base_error_set(err, kind, APR_EGENERAL, "%s %s%s%s", command->argv[0], wrong,
                          process->last_line[0] ? ": " : "", process->last_line);
}

static apr_status_t fail_start(const challenge_dns_command_t *command, int why, base_error_t *err)
{
    char reason[120];

    return base_error_set(err, BASE_ERROR_LOCAL, APR_FROM_OS_ERROR(why), "%s cannot be started: %s",
                          command->argv[0], apr_strerror(APR_FROM_OS_ERROR(why), reason, sizeof(reason)));
}

/* @return why the program was not executed, 0 when it was */
static int read_report(const process_t *process)
{
    int why = 0;
    ssize_t n;

    do {
        n = read(process->report, &why, sizeof(why));
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(why) ? why : 0;
}

static void close_all(process_t *process)
{
    close_fd(&process->in);
    close_fd(&process->out);
    close_fd(&process->report);
    close_fd(&process->child_out);
    close_fd(&process->child_report);
    close_fd(&process->pidfd);
}

apr_status_t challenge_dns_command_run(const challenge_dns_command_t *command,
                                       const challenge_dns_command_run_t *run, const base_stop_t *stop,
                                       apr_pool_t *pool, base_error_t *err)
{
    apr_interval_time_t timeout = command->timeout > 0 ? command->timeout : CHALLENGE_DNS_COMMAND_TIMEOUT;
    process_t *process;
    apr_status_t rv;
    int why = 0;

    if ((rv = check(command, run, err)) != APR_SUCCESS)
        return rv;
    if (base_stop_is_raised(stop))
        return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR,
                              "%s was not run, as this child is asked to stop", command->argv[0]);
    reap_lost();
    process = apr_pcalloc(pool, sizeof(*process));
    process->in = process->out = process->report = process->child_out = process->child_report = -1;
    process->pidfd = -1;
    if (!start(process, command, run, pool)) {
        why = errno;
    }
    else {
        wait_for_end(process, timeout, stop);
        end_group(process);
        read_rest(process);
        why = read_report(process);
        if (process->lost)
            remember_lost(process->pid);
    }
    close_all(process);
    if (why) {
        rv = fail_start(command, why, err);
    }
    else {
        const char *wrong = explain(process, timeout, pool);

        write_log(process, command, run, wrong, pool);
        rv = judge(process, command, wrong, err);
    }
    return rv;
}
