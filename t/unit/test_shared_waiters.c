/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "atomics.h"
#include "shared/waiters.h"

#define PLACES SHARED_WAITERS_CHILDREN
#define LIVE 4                  /* processes that live while the tests run */
#define THREADS 8
#define ROUNDS 300
#define MOST 5
#define MOST_HERE 3
#define NOBODY 0x7f000000U      /* from here on no process has such a number */
#define ANY 1000U

static shared_waiters_t *waiters;
static apr_uint32_t live[LIVE];
static int live_end;

static int clear(void **state)
{
    (void)state;
    memset(waiters, 0, sizeof(*waiters));
    return 0;
}

/* They live as long as the other end of the pipe is open, at most as long as this process. */
static int start_live(void **state)
{
    int ends[2];
    char c;

    (void)state;
    if (pipe(ends)) {
        return 1;
    }
    live_end = ends[1];
    for (int i = 0; i < LIVE; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            close(ends[1]);
            while (read(ends[0], &c, 1) > 0) {
            }
            _exit(0);
        }
        if (pid < 0) {
            return 1;
        }
        live[i] = (apr_uint32_t)pid;
    }
    close(ends[0]);
    return 0;
}

static int stop_live(void **state)
{
    (void)state;
    close(live_end);
    while (wait(NULL) > 0) {
    }
    return 0;
}

static int enter(apr_uint32_t pid, apr_uint32_t most, apr_uint32_t most_here)
{
    return shared_waiters_enter(waiters, pid, most, most_here);
}

static void leave(apr_uint32_t pid)
{
    shared_waiters_leave(waiters, pid);
}

static apr_uint32_t count(void)
{
    return shared_waiters_count(waiters);
}

static int count_places(apr_uint32_t pid)
{
    int places = 0;

    for (int i = 0; i < PLACES; i++) {
        places += waiters->child[i].pid == pid;
    }
    return places;
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(count(), 0);
    assert_true(enter(live[0], 3, 2));
    assert_true(enter(live[0], 3, 2));
    assert_false(enter(live[0], 3, 2));
    assert_true(enter(live[1], 3, 2));
    assert_int_equal(count(), 3);
    assert_false(enter(live[1], 3, 2));
    assert_false(enter(live[2], 3, 2));
    assert_int_equal(count(), 3);
    leave(live[0]);
    assert_int_equal(count(), 2);
    assert_true(enter(live[2], 3, 2));
    assert_false(enter(live[2], 3, 2));
    leave(live[0]);
    leave(live[1]);
    leave(live[2]);
    assert_int_equal(count(), 0);
    /* each has kept its place, and only one */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(count_places(live[i]), 1);
    }
}

static void test_nobody_may(void **state)
{
    (void)state;
    assert_false(enter(live[0], 0, ANY));
    assert_false(enter(live[0], ANY, 0));
    assert_int_equal(count(), 0);
    /* numbers that no process has */
    assert_false(enter(0, ANY, ANY));
    assert_false(enter(0xffffffffU, ANY, ANY));
    assert_int_equal(count_places(0), PLACES - 1);
}

static void test_leave_without_enter(void **state)
{
    (void)state;
    leave(live[0]);
    assert_true(enter(live[0], ANY, ANY));
    leave(live[0]);
    leave(live[0]);
    assert_int_equal(count(), 0);
    assert_true(enter(live[0], 1, 1));
    leave(live[1]);
    assert_int_equal(count(), 1);
}

/* Two threads of a child may have got a place each. */
static void test_child_with_two_places(void **state)
{
    shared_waiters_child_t *first = &waiters->child[live[0] % PLACES];
    shared_waiters_child_t *second = &waiters->child[(live[0] + 1) % PLACES];

    (void)state;
    first->pid = second->pid = live[0];
    second->waiting = 2;
    assert_int_equal(count(), 2);
    assert_false(enter(live[0], ANY, 2));
    assert_true(enter(live[0], ANY, 3));
    for (int i = 0; i < 3; i++) {
        leave(live[0]);
    }
    assert_int_equal(count(), 0);
    assert_int_equal(first->waiting, 0);
    assert_int_equal(second->waiting, 0);
}

static void test_gone_are_cleared(void **state)
{
    (void)state;
    assert_true(enter(live[0], ANY, ANY));
    for (apr_uint32_t i = 0; i < 5; i++) {
        assert_true(enter(NOBODY + i, ANY, ANY));
    }
    /* for kill() that would be a group of processes, which lives */
    assert_true(enter(0U - (apr_uint32_t)getpgrp(), ANY, ANY));
    assert_int_equal(count(), 1);
    assert_int_equal(count_places(0), PLACES - 1);
    assert_int_equal(count_places(live[0]), 1);
}

/* A process was killed while it cleared a place: what stands there counts for nobody. */
static void test_killed_while_clearing(void **state)
{
    (void)state;
    waiters->child[5].pid = 0xffffffffU;
    waiters->child[5].waiting = 3;
    assert_int_equal(count(), 0);
    assert_true(enter(live[0], 1, 1));
    assert_int_equal(count(), 1);
}

/* Who is refused at the limit looks whether it is made of dead ones. */
static void test_gone_keep_nobody_out(void **state)
{
    (void)state;
    assert_true(enter(NOBODY, 2, 2));
    assert_true(enter(NOBODY + 1, 2, 2));
    assert_true(enter(live[0], 2, 2));
    assert_true(enter(live[0], 2, 2));
    assert_false(enter(live[1], 2, 2));
    assert_int_equal(count(), 2);
}

static void test_full_table(void **state)
{
    (void)state;
    for (apr_uint32_t i = 0; i < PLACES; i++) {
        waiters->child[i].pid = live[0];
    }
    assert_false(enter(live[1], ANY, ANY));
    assert_true(enter(live[0], ANY, ANY));
    assert_int_equal(count(), 1);
    /* places where nobody waits are used again only when there is no other */
    for (apr_uint32_t i = 0; i < PLACES; i++) {
        waiters->child[i].pid = NOBODY + i;
        waiters->child[i].waiting = 0;
    }
    waiters->child[7].pid = live[0];
    waiters->child[7].waiting = 1;
    assert_int_equal(count(), 1);
    assert_int_equal(count_places(0), 0);
    assert_true(enter(live[1], ANY, ANY));
    assert_int_equal(count(), 2);
    assert_int_equal(count_places(live[0]), 1);
    assert_int_equal(count_places(live[1]), 1);
    assert_int_equal(count_places(0), PLACES - 2);
}

/* A number that another user's process has got is none of ours. */
static void test_somebody_elses_process(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    assert_true(enter((apr_uint32_t)getpid(), ANY, ANY));
    assert_int_equal(count(), 1);
    if (geteuid() != 0) {
        assert_true(enter(1, ANY, ANY));
        assert_int_equal(count(), 1);
        return;
    }
    pid = fork();
    if (pid == 0) {
        _exit(setuid(65534) ? 0 : count() != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_killed_child(void **state)
{
    int ready[2];
    pid_t pid;
    char c;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3; i++) {
            enter((apr_uint32_t)getpid(), ANY, ANY);
        }
        if (write(ready[1], "", 1) == 1) {
            pause();
        }
        _exit(1);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    assert_int_equal(count(), 3);
    assert_false(enter(live[0], 3, 3));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(enter(live[0], 3, 3));
    assert_int_equal(count(), 1);
    assert_int_equal(count_places((apr_uint32_t)pid), 0);
}

/* --- interrupted at each step ------------------------------------------------------------------- */

static int at;
static int granted;

/* Where something happens at all each step is tried, and some of the long walks over the table. */
static int next_step(int step)
{
    return step % PLACES < 40 || step % PLACES > PLACES - 40 ? step + 1 : step + 31;
}

static void enter_another(int step)
{
    if (step == at) {
        granted += enter(live[1], 1, 1);
    }
}

/* One place for two: never both. */
static void test_two_for_one(void **state)
{
    int alone = 0;

    (void)state;
    waiters->child[0].pid = live[0];
    waiters->child[PLACES / 2].pid = live[1];
    for (at = 0;; at = next_step(at)) {
        granted = 0;
        atomics_set_hook(enter_another);
        granted += enter(live[0], 1, 1);
        if (atomics_set_hook(NULL) <= at) {
            break;
        }
        assert_in_range(granted, 0, 1);
        alone += granted;
        assert_int_equal(count(), granted);
        leave(live[0]);
        leave(live[1]);
        assert_int_equal(count(), 0);
    }
    assert_in_range(alone, 10, 100000);
    assert_in_range(at, PLACES, 10 * PLACES);
}

static void enter_with_same_place(int step)
{
    if (step == at) {
        granted += enter(live[0] % PLACES + NOBODY / PLACES * PLACES + PLACES, ANY, ANY);
    }
}

/* Two new children want the same place: each gets one. */
static void test_two_for_one_place(void **state)
{
    for (at = 0;; at = next_step(at)) {
        clear(state);
        granted = 0;
        atomics_set_hook(enter_with_same_place);
        granted += enter(live[0], ANY, ANY);
        if (atomics_set_hook(NULL) <= at) {
            break;
        }
        assert_int_equal(granted, 2);
        assert_int_equal(count_places(0), PLACES - 2);
        assert_int_equal(count_places(live[0]), 1);
        assert_int_equal(count(), 1);
    }
    assert_in_range(at, PLACES, 10 * PLACES);
}

static void clear_and_enter(int step)
{
    if (step == at) {
        assert_int_equal(count(), 0);
        assert_true(enter(live[0], 2, 2));
        assert_true(enter(live[0], 2, 2));
    }
}

/* A place of the dead is cleared by two at once, and somebody new gets it: what he counts there is his. */
static void test_cleared_by_two(void **state)
{
    shared_waiters_child_t *child = &waiters->child[live[0] % PLACES];

    for (at = 0;; at = next_step(at)) {
        clear(state);
        child->pid = NOBODY;
        child->waiting = 2;
        atomics_set_hook(clear_and_enter);
        assert_in_range(count(), 0, 2);
        if (atomics_set_hook(NULL) <= at) {
            break;
        }
        assert_int_equal(count(), 2);
        leave(live[0]);
        leave(live[0]);
        assert_int_equal(count(), 0);
    }
    assert_in_range(at, PLACES, 10 * PLACES);
}

/* --- threads and processes ---------------------------------------------------------------------- */

/* Who is in, in shared memory. */
static struct {
    volatile apr_uint32_t all;
    volatile apr_uint32_t here[LIVE];
    volatile apr_uint32_t ever;
} *inside;

static void count_out(volatile apr_uint32_t *word)
{
    apr_uint32_t seen;

    do {
        seen = apr_atomic_read32(word);
    } while (apr_atomic_cas32(word, seen - 1, seen) != seen);
}

/* Come and go as the child of that number; how often there were too many. */
static int storm(int child)
{
    int wrong = 0;

    for (int i = 0; i < ROUNDS; i++) {
        if (enter(live[child], MOST, MOST_HERE)) {
            wrong += apr_atomic_inc32(&inside->all) >= MOST;
            wrong += apr_atomic_inc32(&inside->here[child]) >= MOST_HERE;
            apr_atomic_inc32(&inside->ever);
            sched_yield();
            count_out(&inside->here[child]);
            count_out(&inside->all);
            leave(live[child]);
        }
    }
    return wrong;
}

static void *run_storm(void *child)
{
    return (void *)(intptr_t)storm((int)(intptr_t)child);
}

static int clear_all(void **state)
{
    memset((void *)inside, 0, sizeof(*inside));
    return clear(state);
}

static void assert_all_gone(void)
{
    assert_in_range(inside->ever, 1, THREADS * ROUNDS);
    assert_int_equal(count(), 0);
    assert_true(enter(live[0], 1, 1));
    leave(live[0]);
}

static void test_threads(void **state)
{
    pthread_t thread[THREADS];

    (void)state;
    for (intptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, run_storm, (void *)(i % LIVE)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;

        assert_int_equal(pthread_join(thread[i], &wrong), 0);
        assert_null(wrong);
    }
    assert_all_gone();
}

static void test_forked_children(void **state)
{
    pid_t pid[THREADS];
    int status;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            _exit(storm(i % LIVE) > 0);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_int_equal(status, 0);
    }
    assert_all_gone();
}

static void *map_shared(size_t size)
{
    void *mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return mapping == MAP_FAILED ? NULL : mapping;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_limits, clear),
        cmocka_unit_test_setup(test_nobody_may, clear),
        cmocka_unit_test_setup(test_leave_without_enter, clear),
        cmocka_unit_test_setup(test_child_with_two_places, clear),
        cmocka_unit_test_setup(test_gone_are_cleared, clear),
        cmocka_unit_test_setup(test_killed_while_clearing, clear),
        cmocka_unit_test_setup(test_gone_keep_nobody_out, clear),
        cmocka_unit_test_setup(test_full_table, clear),
        cmocka_unit_test_setup(test_somebody_elses_process, clear),
        cmocka_unit_test_setup(test_killed_child, clear),
        cmocka_unit_test_setup(test_two_for_one, clear),
        cmocka_unit_test_setup(test_two_for_one_place, clear),
        cmocka_unit_test_setup(test_cleared_by_two, clear),
        cmocka_unit_test_setup(test_threads, clear_all),
        cmocka_unit_test_setup(test_forked_children, clear_all)
    };

    waiters = map_shared(sizeof(*waiters));
    inside = map_shared(sizeof(*inside));
    if (!waiters || !inside) {
        return 1;
    }
    return cmocka_run_group_tests(tests, start_live, stop_live);
}
