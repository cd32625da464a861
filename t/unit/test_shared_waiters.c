/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>

#include "run.h"
#include "shared/waiters.h"

#define NOW apr_time_from_sec(1800000000)
#define WAIT apr_time_from_sec(10)
#define THREADS 8
#define ROUNDS 20000
#define MOST 3

static shared_waiters_t *make_waiters(void)
{
    return calloc(1, sizeof(shared_waiters_t));
}

static void never_more_than_most(void **state)
{
    shared_waiters_t *waiters = make_waiters();
    shared_waiters_place_t place[MOST + 1];

    (void)state;
    for (int i = 0; i < MOST; i++) {
        assert_true(shared_waiters_enter(waiters, &place[i], MOST, WAIT, NOW));
        assert_int_equal(shared_waiters_count(waiters, NOW), i + 1);
    }
    assert_false(shared_waiters_enter(waiters, &place[MOST], MOST, WAIT, NOW));
    /* who may have more finds a place */
    assert_true(shared_waiters_enter(waiters, &place[MOST], MOST + 1, WAIT, NOW));
    shared_waiters_leave(waiters, &place[MOST]);
    shared_waiters_leave(waiters, &place[1]);
    assert_int_equal(shared_waiters_count(waiters, NOW), MOST - 1);
    assert_true(shared_waiters_enter(waiters, &place[1], MOST, WAIT, NOW));
    assert_false(shared_waiters_enter(waiters, &place[MOST], 0, WAIT, NOW));
    free(waiters);
}

static void a_killed_child_keeps_no_place(void **state)
{
    shared_waiters_t *waiters = make_waiters();
    shared_waiters_place_t lost, other;
    apr_time_t later = NOW + WAIT + apr_time_from_sec(3);

    (void)state;
    assert_true(shared_waiters_enter(waiters, &lost, 1, WAIT, NOW));
    assert_false(shared_waiters_enter(waiters, &other, 1, WAIT, NOW + WAIT));
    assert_true(shared_waiters_enter(waiters, &other, 1, WAIT, later));
    /* who comes back too late does not give away what is somebody else's now */
    shared_waiters_leave(waiters, &lost);
    assert_int_equal(shared_waiters_count(waiters, later), 1);
    shared_waiters_leave(waiters, &other);
    assert_int_equal(shared_waiters_count(waiters, later), 0);
    free(waiters);
}

static void a_clock_set_back_frees_them(void **state)
{
    shared_waiters_t *waiters = make_waiters();
    shared_waiters_place_t place;

    (void)state;
    assert_true(shared_waiters_enter(waiters, &place, 1, SHARED_WAITERS_WAIT_MAX, NOW));
    assert_false(shared_waiters_enter(waiters, &place, 1, WAIT, NOW));
    assert_true(shared_waiters_enter(waiters, &place, 1, WAIT, NOW - apr_time_from_sec(3600)));
    free(waiters);
}

static shared_waiters_t *storm;
static volatile apr_uint32_t inside, too_many, entered;

static void *enter_and_leave(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        shared_waiters_place_t place;

        if (!shared_waiters_enter(storm, &place, MOST, WAIT, NOW)) {
            continue;
        }
        if (apr_atomic_inc32(&inside) >= MOST) {
            apr_atomic_inc32(&too_many);
        }
        apr_atomic_inc32(&entered);
        apr_atomic_dec32(&inside);
        shared_waiters_leave(storm, &place);
    }
    return NULL;
}

static void a_storm_of_threads(void **state)
{
    pthread_t thread[THREADS];

    (void)state;
    storm = make_waiters();
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, enter_and_leave, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    assert_int_equal(apr_atomic_read32(&too_many), 0);
    assert_true(apr_atomic_read32(&entered) > 0);
    assert_int_equal(shared_waiters_count(storm, NOW), 0);
    free(storm);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(never_more_than_most),
    cmocka_unit_test(a_killed_child_keeps_no_place),
    cmocka_unit_test(a_clock_set_back_frees_them),
    cmocka_unit_test(a_storm_of_threads),
};

int main(void)
{
    return RUN_TESTS(tests);
}
