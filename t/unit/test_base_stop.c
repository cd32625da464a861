/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <apr_general.h>

#include "base/stop.h"
#include "run.h"

static apr_pool_t *pool;
static base_stop_t *in_handler;

static base_stop_t *make_stop(void)
{
    base_stop_t *stop = NULL;

    assert_int_equal(base_stop_create(&stop, pool), APR_SUCCESS);
    return stop;
}

static void test_raise(void **state)
{
    base_stop_t *stop = make_stop();
    struct pollfd wait = { .fd = base_stop_fd(stop), .events = POLLIN };

    (void)state;
    assert_false(base_stop_is_raised(stop));
    assert_int_equal(poll(&wait, 1, 0), 0);
    assert_true(fcntl(base_stop_fd(stop), F_GETFD) & FD_CLOEXEC);
    errno = ENOENT;
    base_stop_raise(stop);
    base_stop_raise(stop);
    assert_int_equal(errno, ENOENT);
    assert_true(base_stop_is_raised(stop));
    assert_int_equal(poll(&wait, 1, 0), 1);
    assert_int_equal(base_stop_wait(stop, APR_USEC_PER_SEC * 60), APR_EINTR);
    assert_int_equal(poll(&wait, 1, 0), 1);     /* stays so */
    assert_int_equal(base_stop_wait(stop, 0), APR_EINTR);
}

static void test_null(void **state)
{
    (void)state;
    assert_false(base_stop_is_raised(NULL));
    assert_int_equal(base_stop_fd(NULL), -1);
    base_stop_raise(NULL);
    assert_int_equal(base_stop_wait(NULL, 1000), APR_SUCCESS);
    assert_int_equal(base_stop_wait(NULL, -5), APR_SUCCESS);
}

static void test_closed_with_pool(void **state)
{
    apr_pool_t *sub;
    base_stop_t *stop = NULL;
    int fd;

    (void)state;
    apr_pool_create(&sub, pool);
    assert_int_equal(base_stop_create(&stop, sub), APR_SUCCESS);
    fd = base_stop_fd(stop);
    apr_pool_destroy(sub);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void *raise_later(void *stop)
{
    apr_sleep(50000);
    base_stop_raise(stop);
    return NULL;
}

static void test_wakes_waiter(void **state)
{
    base_stop_t *stop = make_stop();
    apr_time_t start = apr_time_now();
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, raise_later, stop), 0);
    assert_int_equal(base_stop_wait(stop, APR_USEC_PER_SEC * 3600 * 24 * 100), APR_EINTR);
    assert_true(apr_time_now() - start < APR_USEC_PER_SEC * 20);
    pthread_join(thread, NULL);
}

static void ignore(int sig)
{
    (void)sig;
}

static void raise_in_handler(int sig)
{
    (void)sig;
    base_stop_raise(in_handler);
}

static void start_timer(void (*handler)(int), int once)
{
    struct sigaction action = { .sa_handler = handler };
    struct itimerval timer = { { 0, once ? 0 : 10000 }, { 0, 10000 } };

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Signals neither shorten the sleep nor prolong it. */
static void test_survives_signals(void **state)
{
    base_stop_t *stop = make_stop();
    struct itimerval off = { { 0, 0 }, { 0, 0 } };
    apr_time_t start = apr_time_now(), slept;

    (void)state;
    start_timer(ignore, 0);
    assert_int_equal(base_stop_wait(stop, 200000), APR_SUCCESS);
    slept = apr_time_now() - start;
    setitimer(ITIMER_REAL, &off, NULL);
    assert_true(slept >= 195000 && slept < 10 * APR_USEC_PER_SEC);
}

static void test_raised_by_handler(void **state)
{
    (void)state;
    in_handler = make_stop();
    start_timer(raise_in_handler, 1);
    assert_int_equal(base_stop_wait(in_handler, APR_USEC_PER_SEC * 60), APR_EINTR);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_raise),
    cmocka_unit_test(test_null),
    cmocka_unit_test(test_closed_with_pool),
    cmocka_unit_test(test_wakes_waiter),
    cmocka_unit_test(test_survives_signals),
    cmocka_unit_test(test_raised_by_handler),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
