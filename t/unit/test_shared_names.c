/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_siphash.h>
#include <cmocka.h>

#include "atomics.h"
#include "shared/names.h"

#define NOW apr_time_from_sec(1700000000)
#define LATE (NOW + apr_time_from_sec(SHARED_NAMES_STALE + 1))
#define LATER (LATE + apr_time_from_sec(SHARED_NAMES_STALE + 1))
#define SMALL 16U           /* slots: few, so that every step can be interrupted */
#define LARGE 4096U
#define SIZE_MAX_USED (64 * 1024)

#define THREADS 4
#define NAMES 200           /* that are added while others look */
#define TURNS 60            /* how often the set is filled meanwhile */

#define YES SHARED_NAMES_YES
#define NO SHARED_NAMES_NO
#define UNKNOWN SHARED_NAMES_UNKNOWN

static const unsigned char key[SHARED_NAMES_KEY_SIZE] = "0123456789abcde";
static void *memory;
static shared_names_t *names;

/* In place of the library's: "=HEX" has that hash, which tests choose. */
apr_uint64_t apr_siphash24(const void *src, apr_size_t len, const unsigned char with[APR_SIPHASH_KSIZE])
{
    const char *name = src;

    return len > 1 && *name == '=' ? strtoull(name + 1, NULL, 16) : apr_siphash(src, len, with, 2, 4);
}

/* A new set of so many slots in the shared mapping. */
static void lay_out(apr_uint32_t slots)
{
    apr_size_t size = shared_names_size(slots);

    assert_true(size <= SIZE_MAX_USED);
    memset(memory, 0, SIZE_MAX_USED);
    shared_names_init(memory, slots, key);
    names = shared_names_attach(memory, size);
    assert_non_null(names);
}

static int make_small(void **state)
{
    (void)state;
    lay_out(SMALL);
    return 0;
}

static int make_large(void **state)
{
    (void)state;
    lay_out(LARGE);
    return 0;
}

/* Fill the set with what a NULL-terminated list says. */
static void fill(const char *const *list, apr_uint32_t stamp, apr_time_t now)
{
    apr_uint32_t claim = shared_names_begin(names, now);

    assert_int_not_equal(claim, 0);
    for (; *list; list++) {
        assert_true(shared_names_put(names, claim, *list));
    }
    shared_names_commit(names, claim, stamp);
}

static shared_names_answer_t find_number(int i)
{
    char name[32];

    snprintf(name, sizeof(name), "n%d.example", i);
    return shared_names_find(names, name);
}

static void add_number(int i)
{
    char name[32];

    snprintf(name, sizeof(name), "n%d.example", i);
    shared_names_add(names, name);
}

static int put_number(apr_uint32_t claim, int i)
{
    char name[32];

    snprintf(name, sizeof(name), "n%d.example", i);
    return shared_names_put(names, claim, name);
}

static const char *const one[] = { "one.example", NULL };
static const char *const two[] = { "one.example", "two.example", NULL };
static const char *const none[] = { NULL };

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(shared_names_slots(0), 1024);
    assert_int_equal(shared_names_slots(512), 1024);
    assert_int_equal(shared_names_slots(513), 2048);
    assert_int_equal(shared_names_slots(100000), 262144);
    assert_int_equal(shared_names_slots(SHARED_NAMES_SLOTS_MAX / 2), SHARED_NAMES_SLOTS_MAX);
    assert_int_equal(shared_names_slots((apr_size_t)-1), SHARED_NAMES_SLOTS_MAX);
    assert_true(shared_names_size(1024) >= 8 * 1024);
    assert_true(shared_names_size(1024) < 8 * 1024 + 128);
}

static void test_attach(void **state)
{
    apr_size_t size = shared_names_size(SMALL);
    apr_uint32_t *words = memory;

    (void)state;
    memset(memory, 0, SIZE_MAX_USED);
    assert_null(shared_names_attach(NULL, size));
    assert_null(shared_names_attach(memory, size));
    shared_names_init(memory, SMALL, key);
    assert_ptr_equal(shared_names_attach(memory, size), memory);
    assert_null(shared_names_attach(memory, size - 4));
    assert_null(shared_names_attach(memory, size + 4));
    assert_null(shared_names_attach(memory, 8));
    words[0]++;
    assert_null(shared_names_attach(memory, size));
    words[0]--;
    words[1] = 0;
    assert_null(shared_names_attach(memory, shared_names_size(0)));
    words[1] = 24;
    assert_null(shared_names_attach(memory, shared_names_size(24)));
    words[1] = 2 * SHARED_NAMES_SLOTS_MAX;
    assert_null(shared_names_attach(memory, shared_names_size(2 * SHARED_NAMES_SLOTS_MAX)));
}

static void test_never_filled_is_unknown(void **state)
{
    (void)state;
    assert_int_equal(shared_names_find(names, "one.example"), UNKNOWN);
    assert_true(shared_names_find_recent(names, "one.example"));
    assert_int_equal(shared_names_stamp(names), 0);
    /* but it can say yes */
    shared_names_add(names, "one.example");
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_find(names, "two.example"), UNKNOWN);
}

static void test_fill_replaces_what_was_there(void **state)
{
    (void)state;
    fill(two, 7, NOW);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_find(names, "two.example"), YES);
    assert_int_equal(shared_names_find(names, "three.example"), NO);
    assert_int_equal(shared_names_stamp(names), 7);
    fill(one, 8, NOW);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
    assert_int_equal(shared_names_stamp(names), 8);
    /* both banks have been used: nothing of the first filling is left in the third */
    fill(none, 9, NOW);
    assert_int_equal(shared_names_find(names, "one.example"), NO);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
}

static void test_filling_is_not_seen_before_commit(void **state)
{
    apr_uint32_t claim;

    (void)state;
    fill(one, 1, NOW);
    claim = shared_names_begin(names, NOW);
    assert_true(shared_names_put(names, claim, "two.example"));
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
    assert_int_equal(shared_names_stamp(names), 1);
    shared_names_abandon(names, claim);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
    assert_int_equal(shared_names_stamp(names), 1);
    /* an abandoned bank is emptied by the next */
    fill(none, 2, NOW);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
    assert_int_equal(shared_names_stamp(names), 2);
}

static void test_add_goes_to_both_banks(void **state)
{
    apr_uint32_t claim;

    (void)state;
    fill(none, 1, NOW);
    claim = shared_names_begin(names, NOW);
    shared_names_add(names, "one.example");
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    shared_names_commit(names, claim, 2);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    /* and only to those of that time */
    fill(none, 3, NOW);
    assert_int_equal(shared_names_find(names, "one.example"), NO);
}

static void test_recent_is_in_two_banks(void **state)
{
    apr_uint32_t claim;

    (void)state;
    fill(none, 1, NOW);
    shared_names_add(names, "one.example");
    assert_true(shared_names_find_recent(names, "one.example"));
    assert_false(shared_names_find_recent(names, "two.example"));
    fill(none, 2, NOW);
    assert_int_equal(shared_names_find(names, "one.example"), NO);
    assert_true(shared_names_find_recent(names, "one.example"));
    assert_false(shared_names_find_recent(names, "two.example"));
    fill(none, 3, NOW);
    assert_false(shared_names_find_recent(names, "one.example"));
    /* what is being filled is not what was in use before */
    claim = shared_names_begin(names, NOW);
    assert_true(shared_names_put(names, claim, "two.example"));
    assert_false(shared_names_find_recent(names, "two.example"));
    shared_names_abandon(names, claim);
    assert_false(shared_names_find_recent(names, "two.example"));
}

static void test_added_before_the_first_filling_is_recent(void **state)
{
    (void)state;
    shared_names_add(names, "one.example");
    fill(none, 1, NOW);
    assert_true(shared_names_find_recent(names, "one.example"));
    assert_false(shared_names_find_recent(names, "two.example"));
}

/* Beyond three quarters there is no room, and the set says that it does not know. */
static void test_overfull_is_unknown(void **state)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);
    unsigned int room = 0;

    (void)state;
    for (unsigned int i = 0; i < LARGE; i++) {
        room += put_number(claim, (int)i);
    }
    /* not a whole three quarters if some name was too far from its place */
    assert_in_range(room, LARGE / 2, LARGE / 4 * 3);
    assert_false(put_number(claim, LARGE));
    assert_true(put_number(claim, 0));
    shared_names_commit(names, claim, 1);
    assert_int_equal(find_number(0), YES);
    assert_int_equal(find_number(LARGE), UNKNOWN);
    assert_true(shared_names_find_recent(names, "other.example"));
    assert_int_equal(shared_names_stamp(names), 1);
    /* the next filling has room again; but the bank before it still does not know */
    fill(one, 2, NOW);
    assert_int_equal(find_number(LARGE), NO);
    assert_true(shared_names_find_recent(names, "other.example"));
    fill(one, 3, NOW);
    assert_false(shared_names_find_recent(names, "other.example"));
}

static void test_half_full_has_room_for_all(void **state)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);

    (void)state;
    for (unsigned int i = 0; i < LARGE / 2; i++) {
        assert_true(put_number(claim, (int)i));
    }
    shared_names_commit(names, claim, 1);
    for (unsigned int i = 0; i < LARGE / 2; i++) {
        assert_int_equal(find_number((int)i), YES);
    }
    for (unsigned int i = LARGE / 2; i < LARGE; i++) {
        assert_int_equal(find_number((int)i), NO);
    }
}

/* Putting a name twice takes no room. */
static void test_same_name_again(void **state)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);

    (void)state;
    for (unsigned int i = 0; i < 4 * SMALL; i++) {
        assert_true(shared_names_put(names, claim, "one.example"));
    }
    shared_names_commit(names, claim, 1);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
}

static void test_add_without_room(void **state)
{
    (void)state;
    fill(none, 1, NOW);
    for (unsigned int i = 0; i < SMALL; i++) {
        add_number((int)i);
        assert_int_not_equal(find_number((int)i), NO);
    }
    assert_int_equal(shared_names_find(names, "other.example"), UNKNOWN);
}

static int put_hash(apr_uint32_t claim, apr_uint32_t fingerprint, apr_uint32_t place)
{
    char name[32];

    snprintf(name, sizeof(name), "=%x%08x", fingerprint, place);
    return shared_names_put(names, claim, name);
}

static shared_names_answer_t find_hash(apr_uint32_t fingerprint, apr_uint32_t place)
{
    char name[32];

    snprintf(name, sizeof(name), "=%x%08x", fingerprint, place);
    return shared_names_find(names, name);
}

/* Names that all want the last slot stand in the first ones, but not further away than is looked. */
static void test_crowd(void **state)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);
    apr_uint32_t room = 0;

    (void)state;
    while (put_hash(claim, room + 1, LARGE - 1)) {
        room++;
        assert_in_range(room, 1, LARGE / 2);
    }
    assert_int_equal(room, 256);
    shared_names_commit(names, claim, 1);
    for (apr_uint32_t i = 1; i <= room; i++) {
        assert_int_equal(find_hash(i, LARGE - 1), YES);
    }
    assert_int_equal(find_hash(room + 1, LARGE - 1), UNKNOWN);
    assert_int_equal(find_hash(1, 0), UNKNOWN);
    assert_int_equal(find_hash(2, 0), YES);
}

/* A fingerprint of 0 would be a free slot. */
static void test_fingerprint_zero(void **state)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);

    (void)state;
    assert_true(put_hash(claim, 0, 5));
    shared_names_commit(names, claim, 1);
    assert_int_equal(find_hash(0, 5), YES);
    assert_int_equal(find_hash(0, 6), NO);
}

/* The key decides where a name stands: another one, other slots. */
static void test_key_matters(void **state)
{
    static const unsigned char other[SHARED_NAMES_KEY_SIZE] = "other";
    void *first = calloc(1, shared_names_size(SMALL));

    (void)state;
    shared_names_add(names, "one.example");
    memcpy(first, memory, shared_names_size(SMALL));
    memset(memory, 0, SIZE_MAX_USED);
    shared_names_init(memory, SMALL, other);
    shared_names_add(names, "one.example");
    assert_memory_not_equal((char *)first + 64, (char *)memory + 64,
                            shared_names_size(SMALL) - 64);
    free(first);
}

static void test_one_writer(void **state)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);

    (void)state;
    assert_int_not_equal(claim, 0);
    assert_int_equal(shared_names_begin(names, NOW), 0);
    assert_int_equal(shared_names_begin(names, NOW + apr_time_from_sec(SHARED_NAMES_STALE)), 0);
    shared_names_commit(names, claim, 1);
    claim = shared_names_begin(names, NOW);
    assert_int_not_equal(claim, 0);
    shared_names_abandon(names, claim);
    assert_int_not_equal(shared_names_begin(names, NOW), 0);
}

/* A claim of nobody, of a writer that is through, or of one that was replaced. */
static void test_worthless_claims(void **state)
{
    apr_uint32_t old, claim;

    (void)state;
    assert_false(shared_names_put(names, 0, "one.example"));
    shared_names_commit(names, 0, 5);
    assert_int_equal(shared_names_stamp(names), 0);
    shared_names_abandon(names, 0);
    old = shared_names_begin(names, NOW);
    assert_true(shared_names_put(names, old, "one.example"));
    claim = shared_names_begin(names, LATE);
    assert_int_not_equal(claim, 0);
    assert_int_not_equal(claim, old);
    for (int done = 0; done < 2; done++) {
        assert_false(shared_names_put(names, old, "two.example"));
        shared_names_commit(names, old, 1);
        shared_names_abandon(names, old);
        if (!done) {
            assert_int_equal(shared_names_stamp(names), 0);
            assert_true(shared_names_put(names, claim, "three.example"));
            shared_names_commit(names, claim, 2);
        }
        assert_int_equal(shared_names_stamp(names), 2);
    }
    shared_names_commit(names, claim, 3);
    assert_int_equal(shared_names_stamp(names), 2);
    assert_int_equal(shared_names_find(names, "one.example"), NO);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
    assert_int_equal(shared_names_find(names, "three.example"), YES);
}

/* A clock that was set back does not make a writer young for ever, a little one does not make it old. */
static void test_clock_set_back(void **state)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);

    (void)state;
    assert_int_not_equal(claim, 0);
    assert_int_equal(shared_names_begin(names, NOW - apr_time_from_sec(2)), 0);
    assert_int_equal(shared_names_begin(names, NOW - apr_time_from_sec(SHARED_NAMES_STALE)), 0);
    assert_int_not_equal(shared_names_begin(names, NOW - apr_time_from_sec(3600)), 0);
}

/* --- interrupted at each step ------------------------------------------------------------------- */

/* What a hook does once, at step `at`. */
static int at;
static void (*what)(void);

static void interrupt_once(int step)
{
    if (step == at) {
        what();
    }
}

/* @return how many steps run() had from the interrupted one on, zero when it has no such step */
static int run_interrupted(void (*run)(void), int step, void (*other)(void))
{
    int steps;

    at = step;
    what = other;
    atomics_set_hook(interrupt_once);
    run();
    steps = atomics_set_hook(NULL);
    return steps > step ? steps - step : 0;
}

/* A cache of one file, its owner who adds its name, and two writers that list the cache. The events
 * of the writers happen at steps of add() or before the file is stored; step 0 is before that. */
#define EVENTS 6
static int stored;
static int when[EVENTS];
static int next_event;
static const int *order;
static apr_uint32_t claims[2];
static int listed[2];

enum { BEGIN_1, LIST_1, COMMIT_1, BEGIN_2, LIST_2, COMMIT_2 };

static void do_event(int event)
{
    int writer = event >= BEGIN_2;

    switch (event) {
    case BEGIN_1:
    case BEGIN_2:
        claims[writer] = shared_names_begin(names, writer ? LATE : NOW);
        assert_int_not_equal(claims[writer], 0);
        break;
    case LIST_1:
    case LIST_2:
        listed[writer] = stored;
        break;
    default:
        if (listed[writer]) {
            shared_names_put(names, claims[writer], "one.example");
        }
        shared_names_commit(names, claims[writer], 2 + (apr_uint32_t)writer);
        break;
    }
}

static void do_events(int step)
{
    while (next_event < EVENTS && when[next_event] <= step) {
        do_event(order[next_event++]);
    }
}

static void do_events_of_add(int step)
{
    do_events(step + 1);
}

static int add_among_events(void)
{
    int steps;

    lay_out(SMALL);
    fill(none, 1, NOW - apr_time_from_sec(3600));
    stored = 0;
    next_event = 0;
    do_events(0);
    stored = 1;
    atomics_set_hook(do_events_of_add);
    shared_names_add(names, "one.example");
    steps = atomics_set_hook(NULL);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    do_events(1 << 20);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
    return steps;
}

/* All ways to spread the events over the steps. */
static void spread(int event, int from, int to, int (*run)(void))
{
    if (event == EVENTS) {
        assert_in_range(run(), 1, 60);
        return;
    }
    for (when[event] = from; when[event] <= to; when[event]++) {
        spread(event + 1, when[event], to, run);
    }
}

/* Whatever two writers do while a name is added, it is in the bank that is in use afterwards. */
static void test_add_among_writers(void **state)
{
    static const int orders[][EVENTS] = {
        { BEGIN_1, LIST_1, COMMIT_1, BEGIN_2, LIST_2, COMMIT_2 },
        { BEGIN_1, LIST_1, BEGIN_2, COMMIT_1, LIST_2, COMMIT_2 },
        { BEGIN_1, LIST_1, BEGIN_2, LIST_2, COMMIT_2, COMMIT_1 }
    };

    (void)state;
    for (int i = 0; i < 3; i++) {
        order = orders[i];
        spread(0, 0, 10, add_among_events);
    }
}

static void turn(int event)
{
    if (event % 2) {
        shared_names_commit(names, claims[0], 2);
    }
    else {
        claims[0] = shared_names_begin(names, NOW);
    }
}

static void turn_at_step(int step)
{
    while (next_event < EVENTS && when[next_event] <= step) {
        turn(next_event++);
    }
}

static int add_among_turns(void)
{
    int steps;

    lay_out(SMALL);
    fill(none, 1, NOW);
    next_event = 0;
    atomics_set_hook(turn_at_step);
    shared_names_add(names, "one.example");
    steps = atomics_set_hook(NULL);
    assert_true(shared_names_find_recent(names, "one.example"));
    for (int left = 2 - next_event % 2; left > 0 && next_event < EVENTS; left--) {
        turn(next_event++);
        assert_true(shared_names_find_recent(names, "one.example"));
    }
    return steps;
}

/* A set that is turned over to forget: what was added is recent up to the second turn, whatever
 * turns there were meanwhile. */
static void test_add_among_turns(void **state)
{
    (void)state;
    spread(0, 0, 10, add_among_turns);
}

static void store_and_add(void)
{
    stored = 1;
    shared_names_add(names, "one.example");
}

static void turn_once(void)
{
    shared_names_commit(names, shared_names_begin(names, NOW), 3);
}

static void write_once(void)
{
    claims[0] = shared_names_begin(names, NOW);
    if (stored) {
        shared_names_put(names, claims[0], "one.example");
    }
    shared_names_put(names, claims[0], "two.example");
    shared_names_commit(names, claims[0], 2);
}

/* The other way round: a name is added at one step of a writer. */
static void test_writer_among_adds(void **state)
{
    int steps = 0;

    (void)state;
    for (;;) {
        lay_out(SMALL);
        fill(two, 1, NOW);
        fill(two, 1, NOW);
        stored = 0;
        if (!run_interrupted(write_once, steps, store_and_add)) {
            break;
        }
        steps++;
        assert_int_equal(shared_names_find(names, "one.example"), YES);
        assert_int_equal(shared_names_find(names, "two.example"), YES);
        assert_int_equal(shared_names_stamp(names), 2);
        lay_out(SMALL);
        fill(two, 1, NOW);
        fill(none, 1, NOW);
        if (run_interrupted(turn_once, steps, store_and_add)) {
            assert_true(shared_names_find_recent(names, "one.example"));
        }
    }
    assert_true(steps > (int)SMALL);
}

/* Whatever happens, these are in every bank. */
static const char *const lasting[] = {
    "l0.example", "l1.example", "l2.example", "l3.example", "l4.example", "l5.example",
    "l6.example", "l7.example", "l8.example", "l9.example", "l10.example", NULL
};

static void assert_lasting(void)
{
    for (int i = 0; lasting[i]; i++) {
        assert_int_not_equal(shared_names_find(names, lasting[i]), NO);
        assert_true(shared_names_find_recent(names, lasting[i]));
    }
}

static void begin_only(void)
{
    claims[0] = shared_names_begin(names, NOW);
}

static void fill_late(void)
{
    fill(lasting, 2, LATE);
}

static void fill_late_twice(void)
{
    fill(lasting, 2, LATE);
    fill(lasting, 3, LATE);
}

static void fill_late_and_begin(void)
{
    fill(lasting, 2, LATE);
    claims[1] = shared_names_begin(names, LATER);
}

static void overfill_late(void)
{
    apr_uint32_t claim = shared_names_begin(names, LATE);

    for (int i = 0; i < (int)SMALL; i++) {
        put_number(claim, i);
    }
    shared_names_commit(names, claim, 2);
}

static void begin_late(void)
{
    claims[1] = shared_names_begin(names, LATE);
    assert_int_not_equal(claims[1], 0);
}

/* Interrupt begin() at one step and let everybody else go on; zero when there is no such step. */
static int interrupt_begin(int step, void (*other)(void))
{
    int left;

    lay_out(SMALL);
    fill(lasting, 1, NOW);
    fill(lasting, 1, NOW);
    claims[0] = claims[1] = 0;
    left = run_interrupted(begin_only, step, other);
    if (!left) {
        return 0;
    }
    /* it finds out at the next slot that is not free, not when it has cleared all of them */
    assert_true(claims[0] || claims[1] || left <= 14);
    /* before its first step it replaces the other, whose clock seems to be ahead */
    if (claims[1] && !claims[0]) {
        for (int i = 0; lasting[i]; i++) {
            assert_true(shared_names_put(names, claims[1], lasting[i]));
        }
        shared_names_commit(names, claims[1], 4);
    }
    return 1;
}

/* A writer falls asleep at each step of its begin(), is replaced, and wakes up: no name is ever said to
 * be missing that is not, and if the set cannot know, its stamp says that it should be filled anew. */
static void test_begin_of_a_replaced_writer(void **state)
{
    static void (*const others[])(void) = { fill_late, fill_late_twice, fill_late_and_begin, begin_late };
    int harmed = 0;

    (void)state;
    for (int other = 0; other < 4; other++) {
        int steps = 0;

        while (interrupt_begin(steps, others[other])) {
            steps++;
            assert_lasting();
            if (shared_names_find(names, "other.example") == UNKNOWN) {
                assert_int_equal(shared_names_stamp(names), 0);
                harmed++;
            }
            /* and the set is well again when it was filled */
            fill(lasting, 5, LATER + LATER - LATE);
            assert_int_equal(shared_names_find(names, "l0.example"), YES);
            assert_int_equal(shared_names_find(names, "other.example"), NO);
            assert_int_equal(shared_names_stamp(names), 5);
        }
        assert_true(steps > (int)SMALL);
    }
    assert_true(harmed > 0);
}

/* The same when the other one had more names than room. */
static void test_begin_of_a_writer_replaced_by_too_much(void **state)
{
    (void)state;
    for (int steps = 0; interrupt_begin(steps, overfill_late); steps++) {
        for (int i = 0; i < (int)SMALL; i++) {
            assert_int_not_equal(find_number(i), NO);
        }
    }
}

static void finish(void)
{
    shared_names_put(names, claims[0], "one.example");
    shared_names_commit(names, claims[0], 9);
}

/* The same later: its put() and commit() change neither which bank is in use nor its stamp. */
static void test_commit_of_a_replaced_writer(void **state)
{
    int steps = 0;

    (void)state;
    for (;;) {
        lay_out(SMALL);
        fill(lasting, 1, NOW);
        claims[0] = shared_names_begin(names, NOW);
        if (!run_interrupted(finish, steps, fill_late)) {
            break;
        }
        steps++;
        assert_lasting();
        assert_int_equal(shared_names_find(names, "other.example"), NO);
        assert_int_equal(shared_names_stamp(names), 2);
    }
    assert_int_equal(shared_names_stamp(names), 9);
    assert_true(steps >= 6);
}

static shared_names_answer_t answer_lasting, answer_other;
static int recent_lasting;

static void find_lasting(void)
{
    answer_lasting = shared_names_find(names, "l5.example");
}

static void find_other(void)
{
    answer_other = shared_names_find(names, "other.example");
}

static void find_recent_lasting(void)
{
    recent_lasting = shared_names_find_recent(names, "l5.example");
}

/* Two fillings are over when the reader goes on: the bank it looked at has other names by then. */
static void test_find_among_writers(void **state)
{
    static void (*const others[])(void) = { fill_late, fill_late_twice, fill_late_and_begin };

    (void)state;
    for (int other = 0; other < 3; other++) {
        for (int i = 0; i < 12; i++) {
            lay_out(SMALL);
            fill(lasting, 1, NOW);
            run_interrupted(find_lasting, i, others[other]);
            assert_int_equal(answer_lasting, YES);
            lay_out(SMALL);
            fill(lasting, 1, NOW);
            run_interrupted(find_other, i, others[other]);
            assert_int_equal(answer_other, NO);
            lay_out(SMALL);
            fill(lasting, 1, NOW);
            run_interrupted(find_recent_lasting, i, others[other]);
            assert_true(recent_lasting);
        }
    }
}

static void fill_always(int step)
{
    (void)step;
    fill(lasting, 2, LATE);
}

/* A reader that is overtaken again and again gives up. */
static void test_find_gives_up(void **state)
{
    (void)state;
    fill(lasting, 1, NOW);
    atomics_set_hook(fill_always);
    assert_int_equal(shared_names_find(names, "l5.example"), UNKNOWN);
    assert_int_equal(shared_names_find(names, "other.example"), UNKNOWN);
    assert_true(shared_names_find_recent(names, "other.example"));
    assert_int_equal(shared_names_stamp(names), 0);
    atomics_set_hook(NULL);
}

/* --- threads and processes ---------------------------------------------------------------------- */

/* What was stored before it was added, one word for each name, in shared memory. */
static volatile apr_uint32_t *files;

static void store(int i)
{
    assert_int_equal(apr_atomic_cas32(&files[i], 1, 0), 0);
}

static int is_stored(int i)
{
    return apr_atomic_cas32(&files[i], 0, 0) == 1;
}

/* Store and add the names from first on; from then on the set must never say no. How often it did. */
static int add_all(int first)
{
    int wrong = 0;

    for (int i = first; i < first + NAMES; i++) {
        store(i);
        add_number(i);
        for (int j = first; j <= i; j++) {
            wrong += find_number(j) == NO;
        }
    }
    return wrong;
}

/* List the files into a new filling. */
static void write_all(void)
{
    apr_uint32_t claim = shared_names_begin(names, NOW);

    if (!claim) {
        return;
    }
    for (int i = 0; lasting[i]; i++) {
        shared_names_put(names, claim, lasting[i]);
    }
    for (int i = 0; i < THREADS * NAMES; i++) {
        if (is_stored(i)) {
            put_number(claim, i);
        }
    }
    shared_names_commit(names, claim, 2);
}

static void *run_adder(void *first)
{
    return (void *)(intptr_t)add_all((int)(intptr_t)first);
}

static void *run_writer(void *unused)
{
    (void)unused;
    for (int i = 0; i < TURNS; i++) {
        write_all();
    }
    return NULL;
}

/* Look until there is a name that is added last; how many answers were wrong. */
static void *run_reader(void *last)
{
    intptr_t wrong = 0;

    do {
        for (int i = 0; lasting[i]; i++) {
            wrong += shared_names_find(names, lasting[i]) == NO;
        }
        wrong += shared_names_find(names, "other.example") == YES;
    } while (!is_stored((int)(intptr_t)last));
    return (void *)wrong;
}

static int make_shared(void **state)
{
    make_large(state);
    fill(lasting, 1, NOW);
    for (int i = 0; i < THREADS * NAMES; i++) {
        files[i] = 0;
    }
    return 0;
}

static void assert_all_there(void)
{
    for (int i = 0; i < THREADS * NAMES; i++) {
        assert_int_equal(find_number(i), YES);
    }
    assert_int_equal(shared_names_find(names, "l0.example"), YES);
    assert_int_equal(shared_names_find(names, "other.example"), NO);
}

static void test_threads(void **state)
{
    pthread_t adder[THREADS], writer[2], reader;
    void *wrong;

    (void)state;
    for (intptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&adder[i], NULL, run_adder, (void *)(i * NAMES)), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&writer[i], NULL, run_writer, NULL), 0);
    }
    assert_int_equal(pthread_create(&reader, NULL, run_reader, (void *)(intptr_t)(NAMES - 1)), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(adder[i], &wrong), 0);
        assert_null(wrong);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(writer[i], NULL), 0);
    }
    assert_int_equal(pthread_join(reader, &wrong), 0);
    assert_null(wrong);
    assert_all_there();
}

static void test_forked_children(void **state)
{
    int left = THREADS, status;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        if (fork() == 0) {
            _exit(add_all(i * NAMES) > 0);
        }
    }
    while (left > 0) {
        write_all();
        if (waitpid(-1, &status, WNOHANG) > 0) {
            assert_int_equal(status, 0);
            left--;
        }
    }
    assert_all_there();
    write_all();
    assert_all_there();
}

static void test_killed_writer_is_replaced(void **state)
{
    int ready[2], status;
    pid_t pid;
    char c;

    (void)state;
    fill(one, 1, NOW);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        shared_names_put(names, shared_names_begin(names, NOW), "two.example");
        if (write(ready[1], "", 1) == 1) {
            pause();
        }
        _exit(1);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_begin(names, NOW), 0);
    fill(one, 2, LATE);
    assert_int_equal(shared_names_find(names, "one.example"), YES);
    assert_int_equal(shared_names_find(names, "two.example"), NO);
    assert_int_equal(shared_names_stamp(names), 2);
}

static void *map_shared(apr_size_t size)
{
    void *mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return mapping == MAP_FAILED ? NULL : mapping;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_attach),
        cmocka_unit_test_setup(test_never_filled_is_unknown, make_small),
        cmocka_unit_test_setup(test_fill_replaces_what_was_there, make_small),
        cmocka_unit_test_setup(test_filling_is_not_seen_before_commit, make_small),
        cmocka_unit_test_setup(test_add_goes_to_both_banks, make_small),
        cmocka_unit_test_setup(test_recent_is_in_two_banks, make_small),
        cmocka_unit_test_setup(test_added_before_the_first_filling_is_recent, make_small),
        cmocka_unit_test_setup(test_overfull_is_unknown, make_large),
        cmocka_unit_test_setup(test_half_full_has_room_for_all, make_large),
        cmocka_unit_test_setup(test_same_name_again, make_small),
        cmocka_unit_test_setup(test_add_without_room, make_small),
        cmocka_unit_test_setup(test_crowd, make_large),
        cmocka_unit_test_setup(test_fingerprint_zero, make_small),
        cmocka_unit_test_setup(test_key_matters, make_small),
        cmocka_unit_test_setup(test_one_writer, make_small),
        cmocka_unit_test_setup(test_worthless_claims, make_small),
        cmocka_unit_test_setup(test_clock_set_back, make_small),
        cmocka_unit_test(test_add_among_writers),
        cmocka_unit_test(test_add_among_turns),
        cmocka_unit_test(test_writer_among_adds),
        cmocka_unit_test(test_begin_of_a_replaced_writer),
        cmocka_unit_test(test_begin_of_a_writer_replaced_by_too_much),
        cmocka_unit_test(test_commit_of_a_replaced_writer),
        cmocka_unit_test(test_find_among_writers),
        cmocka_unit_test_setup(test_find_gives_up, make_small),
        cmocka_unit_test_setup(test_threads, make_shared),
        cmocka_unit_test_setup(test_forked_children, make_shared),
        cmocka_unit_test_setup(test_killed_writer_is_replaced, make_small)
    };

    memory = map_shared(SIZE_MAX_USED);
    files = map_shared(THREADS * NAMES * sizeof(*files));
    if (!memory || !files) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
