/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
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
#define SECOND apr_time_from_sec(1)
#define LATE (NOW + (SHARED_REQUESTS_STALE + 1) * SECOND)
#define MASK (SHARED_REQUESTS_SLOTS - 1)
#define THREADS 8
#define CHILDREN 8
#define WISHES 60
#define ROUNDS 1500
#define RACES 1000
#define STOPPED 3
#define STOPS 3000

#define NONE SHARED_REQUESTS_NONE
#define PENDING SHARED_REQUESTS_PENDING
#define REFUSED SHARED_REQUESTS_REFUSED
#define FAILED SHARED_REQUESTS_FAILED
#define ADDED SHARED_REQUESTS_ADDED
#define KNOWN SHARED_REQUESTS_KNOWN
#define FULL SHARED_REQUESTS_FULL

/* As requests.c counts them; the use count stands above. */
enum { FREE, WRITING, WISHED, TAKEN, ANSWERING, ANSWERED, CLOSING, PHASES, ONE_USE };

static shared_requests_t *requests;
static const unsigned char key[SHARED_REQUESTS_KEY_SIZE] = {
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
};

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static int clear(void **state)
{
    (void)state;
    memset(requests, 0, sizeof(*requests));
    shared_requests_init(requests, key);
    return 0;
}

static const shared_requests_wish_t *make(shared_requests_wish_t *wish, const char *name,
                                          apr_uint32_t vhost, apr_uint32_t kind,
                                          const char *client)
{
    memset(wish, 0xee, sizeof(*wish));
    snprintf(wish->name, sizeof(wish->name), "%s", name);
    snprintf(wish->client, sizeof(wish->client), "%s", client);
    wish->vhost = vhost;
    wish->kind = kind;
    return wish;
}

/* A wish of the first vhost and key type; good until the next call. */
static const shared_requests_wish_t *wish_of(const char *name)
{
    static shared_requests_wish_t wish;

    return make(&wish, name, 7, 0, "192.0.2.1");
}

static const shared_requests_wish_t *number(shared_requests_wish_t *wish, int n)
{
    char name[32];

    snprintf(name, sizeof(name), "n%d.example", n);
    return make(wish, name, 7, 0, "192.0.2.1");
}

static int add(const char *name, apr_time_t now)
{
    return (int)shared_requests_add(requests, wish_of(name), now);
}

static int find(const char *name, apr_time_t now)
{
    return (int)shared_requests_find(requests, wish_of(name), now);
}

static void answer(const char *name, shared_requests_answer_t what, apr_time_t until)
{
    shared_requests_answer(requests, wish_of(name), what, until, NOW);
}

/* Take everything; how many there were. */
static int drain(apr_time_t now)
{
    shared_requests_wish_t wish;
    unsigned int cursor = 0;
    int count = 0;

    while (shared_requests_take(requests, &cursor, &wish, now)) {
        count++;
    }
    assert_int_equal(cursor, SHARED_REQUESTS_SLOTS);
    return count;
}

static unsigned int phase_of(const shared_requests_slot_t *slot)
{
    return slot->state % ONE_USE;
}

static int count_phase(unsigned int phase)
{
    int count = 0;

    for (int i = 0; i < SHARED_REQUESTS_SLOTS; i++) {
        count += phase_of(&requests->slot[i]) == phase;
    }
    return count;
}

/* What add() makes of a wish in an empty table: where, and how it looks. */
static unsigned int settle(const shared_requests_wish_t *wish, shared_requests_slot_t *looks)
{
    static shared_requests_t other;
    unsigned int i = 0;

    shared_requests_init(&other, key);
    assert_int_equal(shared_requests_add(&other, wish, NOW), ADDED);
    while (phase_of(&other.slot[i]) == FREE) {
        i++;
    }
    if (looks) {
        *looks = other.slot[i];
        looks->state = WISHED;
    }
    shared_requests_answer(&other, wish, NONE, 0, NOW);
    return i;
}

/* Put a wish into a slot as add() would, but in another phase. */
static shared_requests_slot_t *plant(const char *name, unsigned int place, unsigned int phase)
{
    shared_requests_slot_t looks;
    unsigned int home = settle(wish_of(name), &looks);
    shared_requests_slot_t *slot = &requests->slot[(home + place) & MASK];

    *slot = looks;
    slot->state = phase;
    return slot;
}

static void test_a_wish_from_end_to_end(void **state)
{
    shared_requests_wish_t wish;
    unsigned int cursor = 0;

    (void)state;
    assert_int_equal(find("a.example", NOW), NONE);
    assert_int_equal(add("a.example", NOW), ADDED);
    assert_int_equal(add("a.example", NOW), KNOWN);
    assert_int_equal(find("a.example", NOW), PENDING);
    assert_int_equal(find("b.example", NOW), NONE);
    assert_true(shared_requests_take(requests, &cursor, &wish, NOW));
    assert_string_equal(wish.name, "a.example");
    assert_false(shared_requests_take(requests, &cursor, &wish, NOW));
    /* taken is still asked for, and by one only */
    assert_int_equal(find("a.example", NOW), PENDING);
    assert_int_equal(add("a.example", NOW), KNOWN);
    assert_int_equal(drain(NOW), 0);
    answer("a.example", NONE, 0);
    assert_int_equal(find("a.example", NOW), NONE);
    assert_int_equal(count_phase(FREE), SHARED_REQUESTS_SLOTS);
    /* fulfilled, so it is new again */
    assert_int_equal(add("a.example", NOW), ADDED);
    assert_int_equal(drain(NOW), 1);
}

static void test_what_tells_wishes_apart(void **state)
{
    static const struct {
        const char *name;
        apr_uint32_t vhost, kind;
    } rows[] = {
        { "a.example", 7, 0 }, { "a.example", 7, 1 }, { "a.example", 8, 0 }, { "b.example", 7, 0 },
        { "a.example", 0x07000000, 0 }, { "a.example", 0, 7 }
    };
    shared_requests_wish_t wish, taken;
    unsigned int cursor = 0;
    int seen = 0;

    (void)state;
    for (int i = 0; i < 6; i++) {
        make(&wish, rows[i].name, rows[i].vhost, rows[i].kind, "2001:db8::1");
        assert_int_equal(shared_requests_find(requests, &wish, NOW), NONE);
        assert_int_equal(shared_requests_add(requests, &wish, NOW), ADDED);
        /* another client changes nothing */
        make(&wish, rows[i].name, rows[i].vhost, rows[i].kind, "192.0.2.9");
        assert_int_equal(shared_requests_add(requests, &wish, NOW), KNOWN);
        assert_int_equal(shared_requests_find(requests, &wish, NOW), PENDING);
    }
    while (shared_requests_take(requests, &cursor, &taken, NOW)) {
        for (int i = 0; i < 6; i++) {
            if (strcmp(taken.name, rows[i].name) == 0 && taken.vhost == rows[i].vhost
                && taken.kind == rows[i].kind) {
                seen |= 1 << i;
            }
        }
        assert_string_equal(taken.client, "2001:db8::1");
    }
    assert_int_equal(seen, 63);
    shared_requests_answer(requests, make(&wish, "a.example", 7, 1, ""), REFUSED,
                           NOW + 60 * SECOND, NOW);
    assert_int_equal(shared_requests_find(requests, &wish, NOW), REFUSED);
    assert_int_equal(find("a.example", NOW), PENDING);
}

/* Two names of one hash under the test's key, found by search. */
static void test_one_hash_is_not_one_wish(void **state)
{
    shared_requests_wish_t one, two;

    (void)state;
    make(&one, "n86133.example", 0, 0, "");
    make(&two, "n5677.example", 0, 0, "");
    assert_int_equal(shared_requests_add(requests, &one, NOW), ADDED);
    assert_int_equal(shared_requests_find(requests, &two, NOW), NONE);
    assert_int_equal(shared_requests_add(requests, &two, NOW), ADDED);
    assert_int_equal(requests->slot[settle(&one, NULL)].hash, 0x0aa52e2dU);
    assert_int_equal(requests->slot[settle(&one, NULL) + 1].hash, 0x0aa52e2dU);
    assert_int_equal(drain(NOW), 2);
    shared_requests_answer(requests, &one, REFUSED, NOW + 60 * SECOND, NOW);
    assert_int_equal(shared_requests_find(requests, &one, NOW), REFUSED);
    assert_int_equal(shared_requests_find(requests, &two, NOW), PENDING);
    /* the same of vhost and kind */
    plant("a.example", 0, WISHED)->vhost++;
    assert_int_equal(find("a.example", NOW), NONE);
    plant("a.example", 0, WISHED)->kind++;
    assert_int_equal(find("a.example", NOW), NONE);
    plant("a.example", 0, WISHED);
    assert_int_equal(find("a.example", NOW), PENDING);
}

/* 0 is no hash: a wish that would have it, found by search, has 1. */
static void test_hash_of_zero(void **state)
{
    shared_requests_wish_t wish;

    (void)state;
    make(&wish, "z6150599372.example", 0, 0, "");
    assert_int_equal(shared_requests_add(requests, &wish, NOW), ADDED);
    assert_int_equal(phase_of(&requests->slot[1]), WISHED);
    assert_int_equal(requests->slot[1].hash, 1);
    assert_int_equal(drain(NOW), 1);
}

static void test_longest_texts(void **state)
{
    shared_requests_wish_t wish, taken;
    unsigned int cursor = 0;

    (void)state;
    make(&wish, "", 7, 0, "");
    memset(wish.name, 'a', BASE_HOSTNAME_MAX);
    wish.name[BASE_HOSTNAME_MAX] = '\0';
    memset(wish.client, 'c', SHARED_REQUESTS_CLIENT_SIZE - 1);
    wish.client[SHARED_REQUESTS_CLIENT_SIZE - 1] = '\0';
    assert_int_equal(shared_requests_add(requests, &wish, NOW), ADDED);
    assert_int_equal(shared_requests_find(requests, &wish, NOW), PENDING);
    assert_true(shared_requests_take(requests, &cursor, &taken, NOW));
    assert_string_equal(taken.name, wish.name);
    assert_string_equal(taken.client, wish.client);
}

static void test_answer_ends_at_its_moment(void **state)
{
    static const shared_requests_answer_t answers[] = { REFUSED, FAILED };
    const apr_time_t until = NOW + 60 * SECOND;

    for (int i = 0; i < 2; i++) {
        clear(state);
        add("a.example", NOW);
        drain(NOW);
        answer("a.example", answers[i], until);
        assert_int_equal(find("a.example", NOW), answers[i]);
        assert_int_equal(find("a.example", until - 1), answers[i]);
        assert_int_equal(add("a.example", until - 1), KNOWN);
        assert_int_equal(drain(until - 1), 0);
        assert_int_equal(find("a.example", until), NONE);
        assert_int_equal(add("a.example", until), ADDED);
        assert_int_equal(find("a.example", until), PENDING);
        /* the old answer is gone, also for a clock set back */
        assert_int_equal(count_phase(FREE), SHARED_REQUESTS_SLOTS - 1);
        assert_int_equal(find("a.example", NOW), PENDING);
    }
}

static void test_odd_moments(void **state)
{
    (void)state;
    add("a.example", NOW);
    answer("a.example", REFUSED, NOW + 10 * SECOND + 1);
    /* not before it; up to a second later */
    assert_int_equal(find("a.example", NOW + 10 * SECOND + 1), REFUSED);
    assert_int_equal(find("a.example", NOW + 11 * SECOND), NONE);
    add("b.example", NOW);
    answer("b.example", FAILED, NOW - SECOND);
    assert_int_equal(find("b.example", NOW), NONE);
    add("c.example", NOW);
    answer("c.example", FAILED, APR_INT64_MAX);
    assert_int_equal(find("c.example", NOW), FAILED);
    assert_int_equal(find("c.example", NOW + 365 * 24 * 3600 * SECOND), FAILED);
    add("e.example", NOW);
    answer("e.example", FAILED, NOW + 0x100000000LL * SECOND);
    assert_int_equal(find("e.example", NOW + SECOND), FAILED);
    /* 32 bits of seconds end in 2106: nothing special */
    clear(state);
    shared_requests_add(requests, wish_of("d.example"), apr_time_from_sec(0xffffffffLL));
    shared_requests_answer(requests, wish_of("d.example"), REFUSED,
                           apr_time_from_sec(0x10000000aLL), apr_time_from_sec(0xffffffffLL));
    assert_int_equal(find("d.example", apr_time_from_sec(0x100000009LL)), REFUSED);
    assert_int_equal(find("d.example", apr_time_from_sec(0x10000000aLL)), NONE);
}

static void test_answers_that_find_nothing_to_answer(void **state)
{
    static const unsigned int phases[] = { FREE, WRITING, ANSWERING, CLOSING };
    shared_requests_t *before = malloc(sizeof(*before));

    for (int i = 0; i < 4; i++) {
        for (int what = 0; what < 2; what++) {
            clear(state);
            plant("a.example", 0, phases[i]);
            add("b.example", NOW);
            memcpy(before, requests, sizeof(*before));
            answer("a.example", what ? REFUSED : NONE, NOW + 60 * SECOND);
            assert_memory_equal(before, requests, sizeof(*before));
        }
    }
    /* one that is answered stays as it is */
    add("a.example", NOW);
    answer("a.example", REFUSED, NOW + 60 * SECOND);
    memcpy(before, requests, sizeof(*before));
    answer("a.example", FAILED, NOW + 600 * SECOND);
    answer("a.example", NONE, 0);
    assert_memory_equal(before, requests, sizeof(*before));
    free(before);
}

static void test_answer_before_it_is_taken(void **state)
{
    (void)state;
    add("a.example", NOW);
    answer("a.example", FAILED, NOW + 60 * SECOND);
    assert_int_equal(find("a.example", NOW), FAILED);
    add("b.example", NOW);
    answer("b.example", NONE, 0);
    assert_int_equal(find("b.example", NOW), NONE);
    assert_int_equal(drain(NOW), 0);
}

static void test_rewind(void **state)
{
    shared_requests_slot_t *killed = plant("killed.example", 0, ANSWERING);

    (void)state;
    add("taken.example", NOW);
    assert_int_equal(drain(NOW), 1);
    add("answered.example", NOW);
    answer("answered.example", REFUSED, NOW + 60 * SECOND);
    add("wished.example", NOW);
    plant("written.example", 0, WRITING);
    assert_int_equal(find("killed.example", NOW), PENDING);
    shared_requests_rewind(requests);
    assert_int_equal(phase_of(killed), WISHED);
    assert_int_equal(count_phase(WISHED), 3);
    assert_int_equal(count_phase(WRITING), 1);
    /* the configuration may be another one now */
    assert_int_equal(find("answered.example", NOW), NONE);
    assert_int_equal(count_phase(ANSWERED), 0);
    assert_int_equal(drain(NOW), 3);
    assert_int_equal(drain(NOW), 0);
    /* what the predecessor says late still counts */
    answer("taken.example", NONE, 0);
    assert_int_equal(find("taken.example", NOW), NONE);
}

static void test_answer_and_a_clock_set_back(void **state)
{
    (void)state;
    add("a.example", NOW);
    answer("a.example", REFUSED, NOW + 60 * SECOND);
    /* a thread that read the clock before the answer came */
    assert_int_equal(find("a.example", NOW - 10 * SECOND), REFUSED);
    /* an answer for a minute is not kept for an hour */
    assert_int_equal(find("a.example", NOW - 3600 * SECOND), NONE);
    assert_int_equal(add("a.example", NOW - 3600 * SECOND), ADDED);
    assert_int_equal(count_phase(FREE), SHARED_REQUESTS_SLOTS - 1);
    assert_int_equal(find("a.example", NOW), PENDING);
}

static void test_full_table_drops(void **state)
{
    shared_requests_wish_t wish;
    int added = 0;

    (void)state;
    for (int i = 0; i < 20 * SHARED_REQUESTS_SLOTS; i++) {
        added += shared_requests_add(requests, number(&wish, i), NOW) == ADDED;
    }
    assert_int_equal(added, SHARED_REQUESTS_SLOTS);
    assert_int_equal(add("another.example", NOW), FULL);
    assert_int_equal(drain(NOW), SHARED_REQUESTS_SLOTS);
    /* taken is not free */
    assert_int_equal(add("another.example", NOW), FULL);
    assert_int_equal(find("another.example", NOW), NONE);
}

/* Let something else be in all places of a wish. */
static void crowd(const char *name, unsigned int phase)
{
    unsigned int home = settle(wish_of(name), NULL);

    for (unsigned int i = 0; i < SHARED_REQUESTS_PROBES; i++) {
        requests->slot[(home + i) & MASK].state = phase;
    }
}

/* Let an answer to something else be in one of them, which ends in so many seconds. */
static shared_requests_slot_t *plant_answer(const char *name, unsigned int place, int seconds)
{
    /* made by add() and answer(), then brought to a place that is not its own */
    shared_requests_slot_t *made = &requests->slot[settle(wish_of("answered.example"), NULL)];
    shared_requests_slot_t *slot = &requests->slot[(settle(wish_of(name), NULL) + place) & MASK];

    add("answered.example", NOW);
    answer("answered.example", REFUSED, NOW + seconds * SECOND);
    *slot = *made;
    memset(made, 0, sizeof(*made));
    return slot;
}

static void test_which_place_is_used(void **state)
{
    static const unsigned int waiting[] = { WRITING, WISHED, TAKEN, ANSWERING, CLOSING };
    shared_requests_slot_t *later, *sooner, *ended, *unused;

    for (int i = 0; i < 5; i++) {
        clear(state);
        crowd("a.example", waiting[i]);
        assert_int_equal(add("a.example", NOW), FULL);
    }
    later = plant_answer("a.example", 2, 600);
    sooner = plant_answer("a.example", 9, 60);
    ended = plant_answer("a.example", 12, 5);
    unused = &requests->slot[(settle(wish_of("a.example"), NULL) + 14) & MASK];
    unused->state = FREE;
    assert_int_equal(add("a.example", NOW + 10 * SECOND), ADDED);
    assert_int_equal(phase_of(unused), WISHED);
    unused->state = TAKEN;
    unused->hash = 0;
    assert_int_equal(add("a.example", NOW + 10 * SECOND), ADDED);
    assert_int_equal(phase_of(ended), WISHED);
    assert_int_not_equal(ended->state, WISHED);     /* told apart from its last use */
    ended->state = TAKEN;
    ended->hash = 0;
    assert_int_equal(add("a.example", NOW + 10 * SECOND), ADDED);
    assert_int_equal(phase_of(sooner), WISHED);
    sooner->state = TAKEN;
    sooner->hash = 0;
    assert_int_equal(add("a.example", NOW + 10 * SECOND), ADDED);
    assert_int_equal(phase_of(later), WISHED);
    later->hash = 0;
    assert_int_equal(add("a.example", NOW + 10 * SECOND), FULL);
}

static void test_find_never_writes(void **state)
{
    static const int expected[] = { NONE, PENDING, PENDING, PENDING, PENDING, REFUSED, NONE };

    (void)state;
    assert_int_equal(sizeof(expected) / sizeof(expected[0]), PHASES);
    for (unsigned int phase = FREE; phase < PHASES; phase++) {
        shared_requests_slot_t *slot;

        clear(state);
        add("a.example", NOW);
        answer("a.example", REFUSED, NOW + 60 * SECOND);
        slot = &requests->slot[settle(wish_of("a.example"), NULL)];
        slot->state = phase;
        assert_int_equal(mprotect(requests, sizeof(*requests), PROT_READ), 0);
        assert_int_equal(find("a.example", NOW), expected[phase]);
        assert_int_equal(find("b.example", NOW), NONE);
        assert_int_equal(mprotect(requests, sizeof(*requests), PROT_READ | PROT_WRITE), 0);
    }
}

static void test_dead_owner_gives_its_slot_back(void **state)
{
    static const unsigned int phases[] = { WRITING, CLOSING };

    for (int i = 0; i < 2; i++) {
        shared_requests_slot_t *slot;

        clear(state);
        slot = plant("a.example", 0, phases[i]);
        slot->since = (apr_uint32_t)apr_time_sec(NOW);
        assert_int_equal(drain(NOW), 0);
        assert_int_equal(drain(LATE - SECOND), 0);
        assert_int_equal(slot->state, phases[i]);
        assert_int_equal(drain(LATE), 0);
        assert_int_equal(slot->since, 0);
        assert_int_equal(slot->hash, 0);
        /* the next use is told apart from the dead one's */
        assert_int_equal(slot->state, ONE_USE);
    }
}

static void test_owner_killed_before_it_set_the_time(void **state)
{
    static const unsigned int phases[] = { WRITING, CLOSING };

    for (int i = 0; i < 2; i++) {
        shared_requests_slot_t *slot = &requests->slot[5];

        clear(state);
        slot->state = phases[i];
        assert_int_equal(drain(NOW), 0);
        assert_int_equal(slot->state, phases[i]);
        assert_int_equal(slot->since, apr_time_sec(NOW));
        drain(LATE);
        assert_int_equal(slot->state, ONE_USE);
    }
}

static void test_clock_set_back_buries_nobody(void **state)
{
    shared_requests_slot_t *slot = plant("a.example", 0, WRITING);

    (void)state;
    slot->since = (apr_uint32_t)apr_time_sec(NOW);
    drain(NOW - 3600 * SECOND);
    assert_int_equal(phase_of(slot), WRITING);
    drain(LATE - 3600 * SECOND);
    assert_int_equal(phase_of(slot), FREE);
}

static void test_wish_being_written_is_not_added_twice(void **state)
{
    shared_requests_slot_t *slot = plant("a.example", 3, WRITING);

    (void)state;
    slot->since = (apr_uint32_t)apr_time_sec(NOW);
    assert_int_equal(add("a.example", NOW), KNOWN);
    assert_int_equal(find("a.example", NOW), PENDING);
    /* but a dead writer keeps nobody out, and finds out about it should it come back */
    assert_int_equal(find("a.example", LATE), NONE);
    assert_int_equal(add("a.example", LATE), ADDED);
    assert_int_equal(phase_of(slot), CLOSING);
    assert_int_equal(drain(LATE), 1);
    assert_int_equal(phase_of(slot), FREE);
}

/* The last owner counted as dead, came back and wrote its hash into the slot, now another's:
 * no entry is made of two, and the place is there again afterwards. */
static void test_hash_of_an_owner_that_came_back(void **state)
{
    shared_requests_slot_t *slot = plant("a.example", 0, FREE);

    (void)state;
    slot->hash++;
    assert_int_equal(add("a.example", NOW), KNOWN);
    assert_int_equal(slot->state, ONE_USE);
    assert_int_equal(slot->hash, 0);
    assert_int_equal(add("a.example", NOW), ADDED);
    assert_int_equal(drain(NOW), 1);
}

static void test_closing_is_its_owner_s_business(void **state)
{
    shared_requests_slot_t *slot = plant("a.example", 3, CLOSING);

    (void)state;
    assert_int_equal(add("a.example", NOW), ADDED);
    assert_int_equal(slot->state, CLOSING);
    assert_int_equal(drain(NOW), 1);
}

/* Only writers are judged by their time: the one who closes a slot begins anew. */
static void test_time_is_of_writers_only(void **state)
{
    shared_requests_slot_t *slot = &requests->slot[settle(wish_of("a.example"), NULL)];

    (void)state;
    add("a.example", NOW);
    assert_int_equal(slot->since, 0);
    answer("a.example", REFUSED, NOW + SECOND);
    assert_int_equal(slot->since, 0);
    slot->state = slot->state - ANSWERED + CLOSING;
    assert_int_equal(drain(LATE), 0);
    assert_int_equal(phase_of(slot), CLOSING);
}

static void test_overwritten_wish_is_not_handed_out(void **state)
{
    shared_requests_slot_t *slot = &requests->slot[settle(wish_of("a.example"), NULL)];
    shared_requests_slot_t *away = &requests->slot[(settle(wish_of("a.example"), NULL)
                                                    + SHARED_REQUESTS_PROBES) & MASK];
    shared_requests_slot_t whole;

    add("a.example", NOW);
    whole = *slot;
    for (int i = 0; i < 5; i++) {
        clear(state);
        *slot = whole;
        switch (i) {
        case 0:
            slot->name[0] = 'b';
            break;
        case 1:
            slot->vhost++;
            break;
        case 2:
            slot->kind++;
            break;
        case 3:
            memset(slot->name, 'a', sizeof(slot->name));
            break;
        default:
            /* whole, but where nobody would find it */
            slot->state = FREE;
            *away = whole;
            break;
        }
        assert_int_equal(drain(NOW), 0);
        assert_int_equal(count_phase(FREE), SHARED_REQUESTS_SLOTS);
        assert_int_equal(slot->hash, i < 4 ? 0 : whole.hash);
    }
}

/* ---- many at once ---- */

typedef struct crew_t {
    pthread_barrier_t start;
    shared_requests_wish_t wish[WISHES];
    volatile apr_uint32_t added[WISHES];
    volatile apr_uint32_t unseen;
    volatile apr_uint32_t working;
    volatile apr_uint32_t clock;            /* seconds after NOW */
} crew_t;

static crew_t *crew;

static apr_time_t crew_now(void)
{
    return NOW + __atomic_load_n(&crew->clock, __ATOMIC_SEQ_CST) * SECOND;
}

/* Wishes that all fit, or wishes that share so few places that most do not. */
static void gather(int crowded)
{
    static shared_requests_wish_t made[2][WISHES];
    static int count[2];

    memset(crew, 0, sizeof(*crew));
    for (int n = 0; count[crowded] < WISHES; n++) {
        const shared_requests_wish_t *wish = number(&made[crowded][count[crowded]], n);

        count[crowded] += !crowded || settle(wish, NULL) < SHARED_REQUESTS_PROBES;
    }
    memcpy(crew->wish, made[crowded], sizeof(crew->wish));
}

/* Which wish of the crew; -1 none, whole and unchanged. */
static int identify(const shared_requests_wish_t *wish)
{
    for (int i = 0; i < WISHES; i++) {
        if (strcmp(crew->wish[i].name, wish->name) == 0 && crew->wish[i].vhost == wish->vhost
            && crew->wish[i].kind == wish->kind) {
            return i;
        }
    }
    return -1;
}

static void wish_a_lot(unsigned int seed)
{
    for (int i = 0; i < ROUNDS; i++) {
        int n = rand_r(&seed) % WISHES;

        if (shared_requests_add(requests, &crew->wish[n], crew_now()) == ADDED) {
            __atomic_add_fetch(&crew->added[n], 1, __ATOMIC_SEQ_CST);
        }
        shared_requests_find(requests, &crew->wish[rand_r(&seed) % WISHES], crew_now());
    }
    __atomic_sub_fetch(&crew->working, 1, __ATOMIC_SEQ_CST);
}

/* The elected child while the others wish: each time all that is there is taken, held, and
 * answered. No wish is there twice; what "added" said is what is taken. */
static void serve(int steps)
{
    apr_uint32_t taken[WISHES] = { 0 };
    unsigned int turn = 0;
    int last;

    do {
        int held[WISHES] = { 0 };
        shared_requests_wish_t wish;
        unsigned int cursor = 0;

        /* one more round after the last worker has gone */
        last = __atomic_load_n(&crew->working, __ATOMIC_SEQ_CST) == 0;
        while (shared_requests_take(requests, &cursor, &wish, crew_now())) {
            int n = identify(&wish);

            assert_true(n >= 0);
            if (!steps) {
                assert_int_equal(held[n], 0);
            }
            held[n] = 1;
            taken[n]++;
        }
        for (int n = 0; n < WISHES; n++) {
            if (held[n]) {
                static const shared_requests_answer_t answers[] = { NONE, REFUSED, FAILED };
                apr_time_t until = crew_now() + (turn % 5 == 0 ? 60 * SECOND : 0);

                shared_requests_answer(requests, &crew->wish[n], answers[turn++ % 3], until,
                                       crew_now());
            }
        }
        __atomic_add_fetch(&crew->clock, (apr_uint32_t)steps, __ATOMIC_SEQ_CST);
    } while (!last);
    for (int n = 0; n < WISHES && !steps; n++) {
        assert_int_equal(taken[n], crew->added[n]);
    }
    assert_true(steps || count_phase(FREE) + count_phase(ANSWERED) == SHARED_REQUESTS_SLOTS);
}

static void *wish_in_thread(void *data)
{
    pthread_barrier_wait(&crew->start);
    wish_a_lot((unsigned int)(uintptr_t)data);
    return NULL;
}

static void start(pthread_t threads[THREADS], void *(*work)(void *))
{
    crew->working = THREADS;
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    }
}

static void join(pthread_t threads[THREADS])
{
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&crew->start);
}

static void test_threads(void **state)
{
    for (int crowded = 0; crowded < 2; crowded++) {
        pthread_t threads[THREADS];

        clear(state);
        gather(crowded);
        pthread_barrier_init(&crew->start, NULL, THREADS);
        start(threads, wish_in_thread);
        serve(0);
        join(threads);
    }
}

/* The clock runs ahead, so owners that live count as dead in the middle of their work: a wish
 * may be lost then, but none is torn, and at rest all is in order. */
static void test_threads_that_count_as_dead(void **state)
{
    pthread_t threads[THREADS];
    shared_requests_wish_t wish;
    unsigned int cursor = 0;

    (void)state;
    gather(1);
    pthread_barrier_init(&crew->start, NULL, THREADS);
    start(threads, wish_in_thread);
    serve(SHARED_REQUESTS_STALE / 2);
    join(threads);
    shared_requests_rewind(requests);
    while (shared_requests_take(requests, &cursor, &wish, NOW)) {
        assert_true(identify(&wish) >= 0);
        shared_requests_answer(requests, &wish, NONE, 0, NOW);
    }
    assert_int_equal(count_phase(FREE) + count_phase(ANSWERED), SHARED_REQUESTS_SLOTS);
}

/* All want the same few wishes at once, nobody takes: each stands there exactly once, and
 * exactly one was told so. Who was told that it is there can see it. */
static void *race(void *data)
{
    unsigned int from = (unsigned int)(uintptr_t)data;

    for (int round = 0; round < RACES; round++) {
        pthread_barrier_wait(&crew->start);
        for (unsigned int i = 0; i < 4; i++) {
            unsigned int n = (i + from / 4) % 4;

            if (shared_requests_add(requests, &crew->wish[n], NOW) == ADDED) {
                __atomic_add_fetch(&crew->added[n], 1, __ATOMIC_SEQ_CST);
            }
            if (shared_requests_find(requests, &crew->wish[n], NOW) != PENDING) {
                __atomic_add_fetch(&crew->unseen, 1, __ATOMIC_SEQ_CST);
            }
        }
        pthread_barrier_wait(&crew->start);
    }
    return NULL;
}

static void assert_each_once(void)
{
    shared_requests_wish_t wish;
    int seen[WISHES] = { 0 };
    unsigned int cursor = 0;

    while (shared_requests_take(requests, &cursor, &wish, NOW)) {
        int n = identify(&wish);

        assert_true(n >= 0);
        seen[n]++;
        shared_requests_answer(requests, &wish, NONE, 0, NOW);
    }
    for (int n = 0; n < 4; n++) {
        assert_int_equal(seen[n], 1);
        assert_int_equal(crew->added[n], 1);
        crew->added[n] = 0;
    }
    assert_int_equal(crew->unseen, 0);
    assert_int_equal(count_phase(FREE), SHARED_REQUESTS_SLOTS);
}

static void test_threads_make_no_duplicates(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    gather(0);
    pthread_barrier_init(&crew->start, NULL, THREADS + 1);
    start(threads, race);
    for (int round = 0; round < RACES; round++) {
        pthread_barrier_wait(&crew->start);
        pthread_barrier_wait(&crew->start);
        assert_each_once();
    }
    join(threads);
}

/* ---- processes ---- */

static void test_forked_children(void **state)
{
    for (int crowded = 0; crowded < 2; crowded++) {
        clear(state);
        gather(crowded);
        crew->working = CHILDREN;
        for (unsigned int i = 0; i < CHILDREN; i++) {
            if (fork() == 0) {
                wish_a_lot(i);
                _exit(0);
            }
        }
        serve(0);
        while (wait(NULL) > 0) {
        }
    }
}

static void test_forked_children_make_no_duplicates(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        int go[2];

        gather(0);
        assert_int_equal(pipe(go), 0);
        for (unsigned int i = 0; i < CHILDREN; i++) {
            if (fork() == 0) {
                char c;

                close(go[1]);
                while (read(go[0], &c, 1) > 0) {
                }
                for (unsigned int j = 0; j < 4; j++) {
                    unsigned int n = (i + j) % 4;

                    if (shared_requests_add(requests, &crew->wish[n], NOW) == ADDED) {
                        __atomic_add_fetch(&crew->added[n], 1, __ATOMIC_SEQ_CST);
                    }
                }
                _exit(0);
            }
        }
        close(go[0]);
        close(go[1]);
        while (wait(NULL) > 0) {
        }
        assert_each_once();
    }
}

/* Who is told that a wish is new is alone with it until it is answered. */
static void add_and_answer(void)
{
    alarm(600);      /* not for ever, should the test have failed */
    for (;;) {
        if (shared_requests_add(requests, &crew->wish[0], NOW) == ADDED) {
            if (__atomic_add_fetch(&crew->working, 1, __ATOMIC_SEQ_CST) != 1) {
                __atomic_add_fetch(&crew->unseen, 1, __ATOMIC_SEQ_CST);
            }
            __atomic_add_fetch(&crew->added[0], 1, __ATOMIC_SEQ_CST);
            __atomic_sub_fetch(&crew->working, 1, __ATOMIC_SEQ_CST);
            shared_requests_answer(requests, &crew->wish[0], NONE, 0, NOW);
        }
    }
}

/* Children that want the same, each stopped for a while where it is hardly ever otherwise. */
static void test_children_stopped_in_the_middle(void **state)
{
    pid_t pids[STOPPED];
    int stopped[STOPPED] = { 0 };
    unsigned int seed = 1;

    (void)state;
    gather(0);
    memset(crew->wish[0].name, 'a', BASE_HOSTNAME_MAX);     /* takes longest to write */
    crew->wish[0].name[BASE_HOSTNAME_MAX] = '\0';
    for (int i = 0; i < STOPPED; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            add_and_answer();
        }
    }
    for (int i = 0; i < STOPS; i++) {
        int n = rand_r(&seed) % STOPPED;
        int status;

        stopped[n] = !stopped[n];
        kill(pids[n], stopped[n] ? SIGSTOP : SIGCONT);
        if (stopped[n]) {
            assert_int_equal(waitpid(pids[n], &status, WUNTRACED), pids[n]);
        }
        for (volatile int j = rand_r(&seed) % 3000; j > 0; j--) {
        }
    }
    for (int i = 0; i < STOPPED; i++) {
        kill(pids[i], SIGKILL);
    }
    while (wait(NULL) > 0) {
    }
    assert_true(crew->added[0] > 0);
    assert_int_equal(crew->unseen, 0);
}

/* Children killed anywhere cost nothing that does not come back. */
static void test_killed_children(void **state)
{
    for (int round = 0; round < 20; round++) {
        pid_t pids[CHILDREN];

        clear(state);
        gather(1);
        for (unsigned int i = 0; i < CHILDREN; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                unsigned int seed = i;

                alarm(600);
                for (;;) {
                    int n = rand_r(&seed) % WISHES;

                    shared_requests_add(requests, &crew->wish[n], NOW);
                    shared_requests_answer(requests, &crew->wish[n], seed % 2 ? NONE : REFUSED,
                                           NOW, NOW);
                    __atomic_add_fetch(&crew->clock, 1, __ATOMIC_SEQ_CST);
                }
            }
        }
        while (__atomic_load_n(&crew->clock, __ATOMIC_SEQ_CST) < 200) {
            drain(NOW);
        }
        for (int i = 0; i < CHILDREN; i++) {
            kill(pids[i], SIGKILL);
        }
        while (wait(NULL) > 0) {
        }
        drain(NOW);
        drain(LATE);
        shared_requests_rewind(requests);
        drain(LATE);
        for (int n = 0; n < WISHES; n++) {
            shared_requests_answer(requests, &crew->wish[n], NONE, 0, LATE);
        }
        assert_int_equal(count_phase(FREE) + count_phase(ANSWERED), SHARED_REQUESTS_SLOTS);
        for (int n = 0; n < SHARED_REQUESTS_PROBES; n++) {
            assert_int_equal(shared_requests_add(requests, &crew->wish[n], LATE), ADDED);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_wish_from_end_to_end, clear),
        cmocka_unit_test_setup(test_what_tells_wishes_apart, clear),
        cmocka_unit_test_setup(test_one_hash_is_not_one_wish, clear),
        cmocka_unit_test_setup(test_hash_of_zero, clear),
        cmocka_unit_test_setup(test_longest_texts, clear),
        cmocka_unit_test_setup(test_answer_ends_at_its_moment, clear),
        cmocka_unit_test_setup(test_odd_moments, clear),
        cmocka_unit_test_setup(test_answers_that_find_nothing_to_answer, clear),
        cmocka_unit_test_setup(test_answer_before_it_is_taken, clear),
        cmocka_unit_test_setup(test_rewind, clear),
        cmocka_unit_test_setup(test_answer_and_a_clock_set_back, clear),
        cmocka_unit_test_setup(test_full_table_drops, clear),
        cmocka_unit_test_setup(test_which_place_is_used, clear),
        cmocka_unit_test_setup(test_find_never_writes, clear),
        cmocka_unit_test_setup(test_dead_owner_gives_its_slot_back, clear),
        cmocka_unit_test_setup(test_owner_killed_before_it_set_the_time, clear),
        cmocka_unit_test_setup(test_clock_set_back_buries_nobody, clear),
        cmocka_unit_test_setup(test_wish_being_written_is_not_added_twice, clear),
        cmocka_unit_test_setup(test_hash_of_an_owner_that_came_back, clear),
        cmocka_unit_test_setup(test_closing_is_its_owner_s_business, clear),
        cmocka_unit_test_setup(test_time_is_of_writers_only, clear),
        cmocka_unit_test_setup(test_overwritten_wish_is_not_handed_out, clear),
        cmocka_unit_test_setup(test_threads, clear),
        cmocka_unit_test_setup(test_threads_that_count_as_dead, clear),
        cmocka_unit_test_setup(test_threads_make_no_duplicates, clear),
        cmocka_unit_test_setup(test_forked_children, clear),
        cmocka_unit_test_setup(test_forked_children_make_no_duplicates, clear),
        cmocka_unit_test_setup(test_children_stopped_in_the_middle, clear),
        cmocka_unit_test_setup(test_killed_children, clear)
    };

    requests = map(sizeof(*requests));
    crew = map(sizeof(*crew));
    if (!requests || !crew) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
