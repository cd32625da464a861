/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/requests.h"

#define NOW apr_time_from_sec(1700000000)
#define CHILDREN 8
#define NAMES 60
#define ROUNDS 3000

static shared_requests_t *requests;

static int clear(void **state)
{
    (void)state;
    memset(requests, 0, sizeof(*requests));
    return 0;
}

/* Take everything; how many there were. */
static int drain(apr_time_t now)
{
    char name[BASE_HOSTNAME_SIZE];
    unsigned int cursor = 0;
    int count = 0;

    while (shared_requests_take(requests, &cursor, name, now)) {
        count++;
    }
    assert_int_equal(cursor, SHARED_REQUESTS_SLOTS);
    return count;
}

static int count_phase(unsigned int phase)
{
    int count = 0;

    for (int i = 0; i < SHARED_REQUESTS_SLOTS; i++) {
        count += (requests->slot[i].state & 3) == phase;
    }
    return count;
}

static void test_add_once_and_take(void **state)
{
    char name[BASE_HOSTNAME_SIZE] = "";
    unsigned int cursor = 0;

    (void)state;
    assert_true(shared_requests_add(requests, "a.example", NOW));
    assert_false(shared_requests_add(requests, "a.example", NOW));
    assert_true(shared_requests_add(requests, "b.example", NOW));
    assert_true(shared_requests_take(requests, &cursor, name, NOW));
    assert_true(strcmp(name, "a.example") == 0 || strcmp(name, "b.example") == 0);
    assert_true(shared_requests_take(requests, &cursor, name, NOW));
    assert_false(shared_requests_take(requests, &cursor, name, NOW));
    /* taken, so it is new again */
    assert_true(shared_requests_add(requests, "a.example", NOW));
    assert_int_equal(drain(NOW), 1);
}

static void test_longest_name(void **state)
{
    char longest[BASE_HOSTNAME_SIZE + 1];
    char name[BASE_HOSTNAME_SIZE];
    unsigned int cursor = 0;

    (void)state;
    memset(longest, 'a', sizeof(longest));
    longest[BASE_HOSTNAME_MAX + 1] = '\0';
    assert_false(shared_requests_add(requests, longest, NOW));
    longest[BASE_HOSTNAME_MAX] = '\0';
    assert_true(shared_requests_add(requests, longest, NOW));
    assert_true(shared_requests_take(requests, &cursor, name, NOW));
    assert_string_equal(name, longest);
}

static void test_full_table_drops(void **state)
{
    char name[BASE_HOSTNAME_SIZE];
    int added = 0;

    (void)state;
    for (int i = 0; i < 20 * SHARED_REQUESTS_SLOTS; i++) {
        snprintf(name, sizeof(name), "n%d.example", i);
        added += shared_requests_add(requests, name, NOW);
    }
    assert_int_equal(added, SHARED_REQUESTS_SLOTS);
    assert_false(shared_requests_add(requests, "another.example", NOW));
    assert_int_equal(drain(NOW), SHARED_REQUESTS_SLOTS);
    assert_true(shared_requests_add(requests, "another.example", NOW));
}

/* The slot that a name would be written to first. */
static shared_requests_slot_t *first_slot(const char *name)
{
    return &requests->slot[base_hostname_hash(name) & (SHARED_REQUESTS_SLOTS - 1)];
}

static void test_dead_writer_gives_its_slot_back(void **state)
{
    static const unsigned int phases[] = { 1, 3 };
    const apr_time_t late = NOW + apr_time_from_sec(SHARED_REQUESTS_STALE + 1);

    for (int i = 0; i < 2; i++) {
        shared_requests_slot_t *slot = first_slot("a.example");

        clear(state);
        slot->state = phases[i];
        slot->since = (apr_uint32_t)apr_time_sec(NOW);
        assert_int_equal(drain(NOW), 0);
        assert_int_equal(slot->state & 3, phases[i]);
        assert_int_equal(drain(late), 0);
        assert_int_equal(slot->state & 3, 0);
        assert_int_equal(slot->since, 0);
        /* the next use is told apart from the dead one's */
        assert_int_equal(slot->state, 4);
    }
}

static void test_writer_killed_before_it_set_the_time(void **state)
{
    shared_requests_slot_t *slot = first_slot("a.example");

    (void)state;
    slot->state = 1;
    assert_int_equal(drain(NOW), 0);
    assert_int_equal(slot->state & 3, 1);
    assert_int_equal(slot->since, apr_time_sec(NOW));
    drain(NOW + apr_time_from_sec(SHARED_REQUESTS_STALE + 1));
    assert_int_equal(slot->state & 3, 0);
}

static void test_clock_set_back_buries_nobody(void **state)
{
    shared_requests_slot_t *slot = first_slot("a.example");

    (void)state;
    slot->state = 1;
    slot->since = (apr_uint32_t)apr_time_sec(NOW);
    drain(NOW - apr_time_from_sec(3600));
    assert_int_equal(slot->state & 3, 1);
    drain(NOW - apr_time_from_sec(3600) + apr_time_from_sec(SHARED_REQUESTS_STALE + 1));
    assert_int_equal(slot->state & 3, 0);
}

static void test_name_being_written_is_not_added_twice(void **state)
{
    shared_requests_slot_t *slot = first_slot("a.example");
    const apr_time_t late = NOW + apr_time_from_sec(SHARED_REQUESTS_STALE + 1);

    (void)state;
    slot->state = 1;
    slot->hash = base_hostname_hash("a.example");
    slot->since = (apr_uint32_t)apr_time_sec(NOW);
    assert_false(shared_requests_add(requests, "a.example", NOW));
    /* but a dead writer keeps nobody out */
    assert_true(shared_requests_add(requests, "a.example", late));
    assert_int_equal(drain(late), 1);
}

static void test_overwritten_name_is_not_handed_out(void **state)
{
    (void)state;
    assert_true(shared_requests_add(requests, "a.example", NOW));
    memcpy(first_slot("a.example")->name, "bad", 3);
    assert_int_equal(drain(NOW), 0);
    assert_int_equal(count_phase(0), SHARED_REQUESTS_SLOTS);
}

/* Children add while this process takes: at rest no name stands twice in the table, and for
 * each name the adds that said "new" are as many as the takes. */
static void test_forked_children(void **state)
{
    apr_uint32_t *added = mmap(NULL, NAMES * sizeof(*added), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    apr_uint32_t taken[NAMES] = { 0 };
    char name[BASE_HOSTNAME_SIZE];
    unsigned int cursor;
    int left = CHILDREN;

    (void)state;
    assert_ptr_not_equal(added, MAP_FAILED);
    for (int i = 0; i < CHILDREN; i++) {
        if (fork() == 0) {
            unsigned int seed = (unsigned int)i;

            for (int j = 0; j < ROUNDS; j++) {
                int n = rand_r(&seed) % NAMES;

                snprintf(name, sizeof(name), "n%d.example", n);
                if (shared_requests_add(requests, name, NOW)) {
                    apr_atomic_inc32(&added[n]);
                }
            }
            _exit(0);
        }
    }
    while (left >= 0) {
        /* one more round after the last child has gone */
        left = left > 0 ? left - (waitpid(-1, NULL, WNOHANG) > 0) : -1;
        cursor = 0;
        while (shared_requests_take(requests, &cursor, name, NOW)) {
            assert_int_equal(name[0], 'n');
            taken[strtol(name + 1, NULL, 10)]++;
        }
    }
    for (int n = 0; n < NAMES; n++) {
        assert_int_equal(taken[n], added[n]);
        assert_true(added[n] > 0);
    }
    assert_int_equal(count_phase(0), SHARED_REQUESTS_SLOTS);
    munmap(added, NAMES * sizeof(*added));
}

/* All children want the same few names at once, nobody takes: each stands there exactly once. */
static void test_forked_children_make_no_duplicates(void **state)
{
    int seen[4];
    char name[BASE_HOSTNAME_SIZE];

    for (int round = 0; round < 40; round++) {
        int go[2];
        unsigned int cursor = 0;

        clear(state);
        assert_int_equal(pipe(go), 0);
        for (int i = 0; i < CHILDREN; i++) {
            if (fork() == 0) {
                char c;

                close(go[1]);
                while (read(go[0], &c, 1) > 0) {
                }
                for (int n = 0; n < 4; n++) {
                    snprintf(name, sizeof(name), "n%d.example", n);
                    shared_requests_add(requests, name, NOW);
                }
                _exit(0);
            }
        }
        close(go[0]);
        close(go[1]);
        while (wait(NULL) > 0) {
        }
        memset(seen, 0, sizeof(seen));
        while (shared_requests_take(requests, &cursor, name, NOW)) {
            seen[strtol(name + 1, NULL, 10)]++;
        }
        for (int n = 0; n < 4; n++) {
            assert_int_equal(seen[n], 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_add_once_and_take, clear),
        cmocka_unit_test_setup(test_longest_name, clear),
        cmocka_unit_test_setup(test_full_table_drops, clear),
        cmocka_unit_test_setup(test_dead_writer_gives_its_slot_back, clear),
        cmocka_unit_test_setup(test_writer_killed_before_it_set_the_time, clear),
        cmocka_unit_test_setup(test_clock_set_back_buries_nobody, clear),
        cmocka_unit_test_setup(test_name_being_written_is_not_added_twice, clear),
        cmocka_unit_test_setup(test_overwritten_name_is_not_handed_out, clear),
        cmocka_unit_test_setup(test_forked_children, clear),
        cmocka_unit_test_setup(test_forked_children_make_no_duplicates, clear)
    };

    requests = mmap(NULL, sizeof(*requests), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                    -1, 0);
    if (requests == MAP_FAILED) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
