/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define POLL_RETRY_USEC 100000  /* pause when poll() itself lacks memory */

struct base_stop_t {
    int fd[2];      /* read end, write end */
    int raised;     /* atomic; the pipe is for poll(), this for a quick look */
};

static apr_status_t close_pipe(void *baton)
{
    base_stop_t *stop = baton;

    close(stop->fd[0]);
    close(stop->fd[1]);
    stop->fd[0] = stop->fd[1] = -1;
    return APR_SUCCESS;
}

apr_status_t base_stop_create(base_stop_t **stop, apr_pool_t *pool)
{
    base_stop_t *made = apr_pcalloc(pool, sizeof(*made));

    if (pipe2(made->fd, O_CLOEXEC | O_NONBLOCK) != 0)
        return APR_FROM_OS_ERROR(errno);
    apr_pool_cleanup_register(pool, made, close_pipe, apr_pool_cleanup_null);
    *stop = made;
    return APR_SUCCESS;
}

void base_stop_raise(base_stop_t *stop)
{
    int saved = errno;      /* a signal handler must leave it as it was */

    if (stop && !__atomic_exchange_n(&stop->raised, 1, __ATOMIC_SEQ_CST)) {
        ssize_t written;

        /* The one byte of the pipe's life, so it always fits. */
        do {
            written = write(stop->fd[1], "", 1);
        } while (written < 0 && errno == EINTR);
    }
    errno = saved;
}

int base_stop_is_raised(const base_stop_t *stop)
{
    return stop && __atomic_load_n(&stop->raised, __ATOMIC_SEQ_CST);
}

int base_stop_fd(const base_stop_t *stop)
{
    return stop ? stop->fd[0] : -1;
}

/* Microseconds of a clock that nobody sets. */
static apr_interval_time_t read_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (apr_interval_time_t)ts.tv_sec * APR_USEC_PER_SEC + ts.tv_nsec / 1000;
}

/* Rounded up, or the last millisecond would be spent spinning. */
static int to_poll_timeout(apr_interval_time_t left)
{
    apr_interval_time_t ms = left / 1000 + (left % 1000 ? 1 : 0);

    return ms > INT_MAX ? INT_MAX : (int)ms;
}

apr_status_t base_stop_wait(const base_stop_t *stop, apr_interval_time_t interval)
{
    /* poll() ignores an entry with a negative descriptor, so NULL just sleeps. */
    struct pollfd wait = { .fd = base_stop_fd(stop), .events = POLLIN };
    apr_interval_time_t start = read_clock();
    apr_interval_time_t left = interval > 0 ? interval : 0;

    for (;;) {
        int ready = 0;

        if (base_stop_is_raised(stop))
            return APR_EINTR;
        if (left <= 0)
            return APR_SUCCESS;
        ready = poll(&wait, 1, to_poll_timeout(left));
        if (ready > 0)
            return APR_EINTR;
        if (ready < 0 && errno != EINTR)
            apr_sleep(left < POLL_RETRY_USEC ? left : POLL_RETRY_USEC);
        left = interval - (read_clock() - start);
    }
}
