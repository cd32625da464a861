/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/requests.h"

#include <string.h>

#include <apr_siphash.h>

/* The phases of a slot: the low three bits of its state. The bits above count how often
 * the slot was used, so that an owner that slept for very long cannot take a later use of
 * its slot for its own. */
#define FREE 0U
#define WRITING 1U
#define WISHED 2U
#define TAKEN 3U
#define ANSWERING 4U
#define ANSWERED 5U
#define CLOSING 6U
#define PHASE_MASK 7U
#define USE_ONE 8U

/* slot->answer: the answer in the low bits, above them for how many seconds it was given. */
#define ANSWER_BITS 2
#define ANSWER_MASK 3U
#define KEPT_MAX 0x3fffffff

/* What was seen of a slot that holds a wish: all of one moment. */
typedef struct view_t {
    apr_uint32_t state;         /* FREE: the slot does not hold it */
    apr_uint32_t since;
    apr_uint32_t until;
    apr_uint32_t answer;
} view_t;

/* ---- words and texts ----
 *
 * The compiler's atomics: those of APR promise no order for plain reads, which the
 * protocol below needs, and a thread sanitizer does not see them. Also the texts are read and
 * written by atomic bytes: who looks for a wish may see a slot that is just written for
 * another one, which the state, read again afterwards, tells. */

static apr_uint32_t read_word(const volatile apr_uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void write_word(volatile apr_uint32_t *word, apr_uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* Move a word from one value to another; non-zero when this caller did it. */
static int move(volatile apr_uint32_t *word, apr_uint32_t from, apr_uint32_t to)
{
    return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void write_text(char *to, size_t size, const char *from)
{
    size_t len = strnlen(from, size - 1);

    for (size_t i = 0; i < len; i++) {
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELEASE);
    }
    __atomic_store_n(&to[len], '\0', __ATOMIC_RELEASE);
}

static void read_text(char *to, size_t size, const char *from)
{
    size_t i = 0;

    while (i < size - 1 && (to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE)) != '\0') {
        i++;
    }
    to[i] = '\0';
}

static int is_text(const char *there, size_t size, const char *text)
{
    for (size_t i = 0; i < size; i++) {
        if (__atomic_load_n(&there[i], __ATOMIC_ACQUIRE) != text[i]) {
            return 0;
        }
        if (text[i] == '\0') {
            break;
        }
    }
    return 1;
}

static void write_wish(shared_requests_slot_t *slot, const shared_requests_wish_t *wish)
{
    __atomic_store_n(&slot->vhost, wish->vhost, __ATOMIC_RELEASE);
    __atomic_store_n(&slot->kind, wish->kind, __ATOMIC_RELEASE);
    write_text(slot->client, sizeof(slot->client), wish->client);
    write_text(slot->name, sizeof(slot->name), wish->name);
}

static void read_wish(shared_requests_wish_t *wish, const shared_requests_slot_t *slot)
{
    wish->vhost = __atomic_load_n(&slot->vhost, __ATOMIC_ACQUIRE);
    wish->kind = __atomic_load_n(&slot->kind, __ATOMIC_ACQUIRE);
    read_text(wish->client, sizeof(wish->client), slot->client);
    read_text(wish->name, sizeof(wish->name), slot->name);
}

static int is_wish(const shared_requests_slot_t *slot, const shared_requests_wish_t *wish)
{
    return __atomic_load_n(&slot->vhost, __ATOMIC_ACQUIRE) == wish->vhost
        && __atomic_load_n(&slot->kind, __ATOMIC_ACQUIRE) == wish->kind
        && is_text(slot->name, sizeof(slot->name), wish->name);
}

static apr_uint32_t hash_of(const shared_requests_t *requests,
                            const shared_requests_wish_t *wish)
{
    unsigned char text[sizeof(wish->vhost) + sizeof(wish->kind) + BASE_HOSTNAME_SIZE];
    size_t len = strnlen(wish->name, BASE_HOSTNAME_MAX);
    size_t at = 0;
    apr_uint32_t hash;

    memcpy(text, &wish->vhost, sizeof(wish->vhost));
    at += sizeof(wish->vhost);
    memcpy(text + at, &wish->kind, sizeof(wish->kind));
    at += sizeof(wish->kind);
    memcpy(text + at, wish->name, len);
    hash = (apr_uint32_t)apr_siphash24(text, at + len, requests->key);
    return hash ? hash : 1;
}

/* ---- time ---- */

static apr_uint32_t clock_of(apr_time_t now)
{
    return (apr_uint32_t)apr_time_sec(now);
}

/* The same for slot->since, where 0 has a meaning. */
static apr_uint32_t stamp_of(apr_time_t now)
{
    apr_uint32_t seconds = clock_of(now);

    return seconds ? seconds : 1;
}

/* Non-zero when an owner that began at that time had its slot for so long that it must be dead. */
static int is_stale(apr_uint32_t since, apr_time_t now)
{
    return since && (apr_int32_t)(stamp_of(now) - since) > SHARED_REQUESTS_STALE;
}

/* For how many seconds from now an answer holds. One that would hold for longer than it was
 * given for is of a clock that was set back since, and holds no more. */
static apr_int32_t left_of(apr_uint32_t until, apr_uint32_t answer, apr_time_t now)
{
    apr_int32_t left = (apr_int32_t)(until - clock_of(now));
    apr_int32_t kept = (apr_int32_t)(answer >> ANSWER_BITS);

    return left > 0 && left <= kept + SHARED_REQUESTS_STALE ? left : 0;
}

/* For how many seconds to keep an answer: rounded up, "not before" stays true. */
static apr_uint32_t kept_for(apr_time_t until, apr_time_t now)
{
    apr_int64_t seconds = apr_time_sec(until) + (apr_time_usec(until) > 0) - apr_time_sec(now);

    if (seconds < 0) {
        return 0;
    }
    return seconds < KEPT_MAX ? (apr_uint32_t)seconds : KEPT_MAX;
}

/* ---- slots ---- */

static apr_uint32_t phase_of(apr_uint32_t state)
{
    return state & PHASE_MASK;
}

static apr_uint32_t with_phase(apr_uint32_t state, apr_uint32_t phase)
{
    return (state & ~PHASE_MASK) | phase;
}

static shared_requests_slot_t *probe(shared_requests_t *requests, apr_uint32_t hash,
                                     unsigned int place)
{
    return &requests->slot[(hash + place) & (SHARED_REQUESTS_SLOTS - 1)];
}

/* Look whether a slot holds a wish, or is just being written with it: the hash is set after the
 * rest and cleared before the slot is free. */
static void look(view_t *view, const shared_requests_slot_t *slot,
                 const shared_requests_wish_t *wish, apr_uint32_t hash)
{
    int holds;

    do {
        view->state = read_word(&slot->state);
        if (read_word(&slot->hash) != hash) {
            view->state = FREE;
            return;
        }
        view->since = read_word(&slot->since);
        view->until = read_word(&slot->until);
        view->answer = read_word(&slot->answer);
        holds = is_wish(slot, wish);
    } while (read_word(&slot->state) != view->state);
    if (!holds || phase_of(view->state) == CLOSING) {
        view->state = FREE;
    }
}

/* What a view says of its wish now. */
static shared_requests_answer_t judge(const view_t *view, apr_time_t now)
{
    switch (phase_of(view->state)) {
    case WRITING:
        return is_stale(view->since, now) ? SHARED_REQUESTS_NONE : SHARED_REQUESTS_PENDING;
    case WISHED:
    case TAKEN:
    case ANSWERING:
        return SHARED_REQUESTS_PENDING;
    case ANSWERED:
        return left_of(view->until, view->answer, now)
            ? (shared_requests_answer_t)(view->answer & ANSWER_MASK) : SHARED_REQUESTS_NONE;
    default:
        return SHARED_REQUESTS_NONE;
    }
}

/* Free a slot in CLOSING: what the next owner relies on is cleared before. An owner that was
 * counted as dead finds another state, or another hash, and leaves the slot alone. */
static void release(shared_requests_slot_t *slot, apr_uint32_t closing)
{
    apr_uint32_t hash = read_word(&slot->hash);
    apr_uint32_t since = read_word(&slot->since);

    if (read_word(&slot->state) != closing) {
        return;
    }
    move(&slot->hash, hash, 0);
    move(&slot->since, since, 0);
    move(&slot->state, closing, with_phase(closing + USE_ONE, FREE));
}

/* Free a slot in any other phase; zero when its state has changed. */
static int finish(shared_requests_slot_t *slot, apr_uint32_t state)
{
    apr_uint32_t closing = with_phase(state, CLOSING);

    if (!move(&slot->state, state, closing)) {
        return 0;
    }
    release(slot, closing);
    return 1;
}

/* Give up a slot in WRITING that is this caller's own; another writer may have brought it
 * to CLOSING already. */
static void withdraw(shared_requests_slot_t *slot, apr_uint32_t writing)
{
    if (!finish(slot, writing)) {
        release(slot, with_phase(writing, CLOSING));
    }
}

/* ---- leaving a wish ---- */

/* Look through all places of a wish, from the last to the first: of two writers of one wish the
 * one at the earlier place goes on, so whoever looks in this order sees the one that
 * goes or the one that stays. */
shared_requests_answer_t shared_requests_find(shared_requests_t *requests,
                                              const shared_requests_wish_t *wish, apr_time_t now)
{
    apr_uint32_t hash = hash_of(requests, wish);

    for (unsigned int place = SHARED_REQUESTS_PROBES; place-- > 0;) {
        shared_requests_answer_t answer;
        view_t view;

        look(&view, probe(requests, hash, place), wish, hash);
        answer = judge(&view, now);
        if (answer != SHARED_REQUESTS_NONE) {
            return answer;
        }
    }
    return SHARED_REQUESTS_NONE;
}

/* Bring a slot in ANSWERED to WRITING, for its next use. */
static int take_over(shared_requests_slot_t *slot, apr_uint32_t answered, apr_uint32_t *writing)
{
    apr_uint32_t closing = with_phase(answered, CLOSING);

    if (!move(&slot->state, answered, closing)) {
        return 0;
    }
    write_word(&slot->hash, 0);
    *writing = with_phase(closing + USE_ONE, WRITING);
    return move(&slot->state, closing, *writing);
}

/* Bring the first free slot to WRITING; else that of the answer that ends first, which is one
 * that has ended if there is any. @return its place, or SHARED_REQUESTS_PROBES: all places
 * have wishes that wait */
static unsigned int claim(shared_requests_t *requests, apr_uint32_t hash, apr_time_t now,
                          apr_uint32_t *writing)
{
    unsigned int best;

    do {
        apr_uint32_t best_state = FREE;
        apr_int32_t least = 0;

        best = SHARED_REQUESTS_PROBES;
        for (unsigned int place = 0; place < SHARED_REQUESTS_PROBES; place++) {
            shared_requests_slot_t *slot = probe(requests, hash, place);
            apr_uint32_t state = read_word(&slot->state);
            apr_int32_t left;

            *writing = with_phase(state, WRITING);
            if (phase_of(state) == FREE && move(&slot->state, state, *writing)) {
                return place;
            }
            if (phase_of(state) != ANSWERED) {
                continue;
            }
            left = left_of(read_word(&slot->until), read_word(&slot->answer), now);
            if (best == SHARED_REQUESTS_PROBES || left < least) {
                best = place;
                best_state = state;
                least = left;
            }
        }
        if (best < SHARED_REQUESTS_PROBES
            && take_over(probe(requests, hash, best), best_state, writing)) {
            return best;
        }
    } while (best < SHARED_REQUESTS_PROBES);
    return best;
}

/*
 * Two writers can claim different slots for one wish at the same time. Each makes its hash
 * visible first and looks at the others afterwards, so at least one sees the other: a wish
 * that is there wins, else the slot at the earlier place. The loser's slot is moved to CLOSING,
 * which its owner notices when it wants to make it WISHED; so is one whose owner seems
 * dead. An answer that has ended makes way too: there is one entry for a wish.
 * Non-zero when the slot at place mine may go on.
 */
static int wins(shared_requests_t *requests, const shared_requests_wish_t *wish,
                apr_uint32_t hash, unsigned int mine, apr_time_t now)
{
    for (unsigned int place = 0; place < SHARED_REQUESTS_PROBES; place++) {
        shared_requests_slot_t *slot = probe(requests, hash, place);
        int gone = place == mine;

        while (!gone) {
            view_t view;

            look(&view, slot, wish, hash);
            if (judge(&view, now) != SHARED_REQUESTS_NONE
                && (phase_of(view.state) != WRITING || place < mine)) {
                return 0;
            }
            switch (phase_of(view.state)) {
            case FREE:
                gone = 1;
                break;
            case WRITING:
                gone = move(&slot->state, view.state, with_phase(view.state, CLOSING));
                break;
            default:
                gone = finish(slot, view.state);
                break;
            }
        }
    }
    return 1;
}

shared_requests_added_t shared_requests_add(shared_requests_t *requests,
                                            const shared_requests_wish_t *wish, apr_time_t now)
{
    apr_uint32_t hash = hash_of(requests, wish);
    apr_uint32_t writing = FREE;
    shared_requests_slot_t *slot;
    unsigned int mine;

    if (shared_requests_find(requests, wish, now) != SHARED_REQUESTS_NONE) {
        return SHARED_REQUESTS_KNOWN;
    }
    mine = claim(requests, hash, now, &writing);
    if (mine == SHARED_REQUESTS_PROBES) {
        return SHARED_REQUESTS_FULL;
    }
    slot = probe(requests, hash, mine);
    write_word(&slot->since, stamp_of(now));
    write_wish(slot, wish);
    /* A hash that is there already is of the next owner, or of the last one who came back. */
    if (!move(&slot->hash, 0, hash) || !wins(requests, wish, hash, mine, now)) {
        withdraw(slot, writing);
        return SHARED_REQUESTS_KNOWN;
    }
    /* The time is of writers only: who closes the slot later begins without one. */
    write_word(&slot->since, 0);
    if (!move(&slot->state, writing, with_phase(writing, WISHED))) {
        withdraw(slot, writing);
        return SHARED_REQUESTS_KNOWN;
    }
    return SHARED_REQUESTS_ADDED;
}

/* ---- the elected child ---- */

/* Look at a slot in WRITING or CLOSING: free it when its owner is dead. An owner killed before
 * it could set the time is given one now. */
static void bury(shared_requests_slot_t *slot, apr_uint32_t state, apr_time_t now)
{
    apr_uint32_t since = read_word(&slot->since);

    if (!since || (apr_int32_t)(stamp_of(now) - since) < 0) {
        move(&slot->since, since, stamp_of(now));
    }
    else if (is_stale(since, now)) {
        if (phase_of(state) == CLOSING) {
            release(slot, state);
        }
        else {
            finish(slot, state);
        }
    }
}

/* Bring a slot from WISHED to TAKEN and copy what it holds. An owner that came back after it was
 * counted as dead may have written over it; then the hash does not fit, or its place. (When it
 * comes even later the slot stays TAKEN, and nobody's, up to the next rewind.) */
static int take_wished(shared_requests_t *requests, unsigned int number, apr_uint32_t wished,
                       shared_requests_wish_t *wish)
{
    shared_requests_slot_t *slot = &requests->slot[number];
    apr_uint32_t taken = with_phase(wished, TAKEN);
    apr_uint32_t hash;

    if (!move(&slot->state, wished, taken)) {
        return 0;
    }
    read_wish(wish, slot);
    hash = read_word(&slot->hash);
    if (hash_of(requests, wish) != hash
        || ((number - hash) & (SHARED_REQUESTS_SLOTS - 1)) >= SHARED_REQUESTS_PROBES) {
        finish(slot, taken);
        return 0;
    }
    /* Else a late answer came in between, and the slot may be another wish's. */
    return read_word(&slot->state) == taken;
}

int shared_requests_take(shared_requests_t *requests, unsigned int *cursor,
                         shared_requests_wish_t *wish, apr_time_t now)
{
    while (*cursor < SHARED_REQUESTS_SLOTS) {
        unsigned int number = (*cursor)++;
        shared_requests_slot_t *slot = &requests->slot[number];
        apr_uint32_t state = read_word(&slot->state);

        switch (phase_of(state)) {
        case WISHED:
            if (take_wished(requests, number, state, wish)) {
                return 1;
            }
            break;
        case WRITING:
        case CLOSING:
            bury(slot, state, now);
            break;
        default:
            break;
        }
    }
    return 0;
}

/* Keep an answer in the slot of its wish; zero when its state has changed. ANSWERING belongs to
 * one answer, so two that come together do not mix. */
static int keep(shared_requests_slot_t *slot, apr_uint32_t state,
                shared_requests_answer_t answer, apr_time_t until, apr_time_t now)
{
    apr_uint32_t answering = with_phase(state, ANSWERING);
    apr_uint32_t kept = kept_for(until, now);

    if (!move(&slot->state, state, answering)) {
        return 0;
    }
    write_word(&slot->until, clock_of(now) + kept);
    write_word(&slot->answer, (apr_uint32_t)answer | kept << ANSWER_BITS);
    move(&slot->state, answering, with_phase(state, ANSWERED));
    return 1;
}

void shared_requests_answer(shared_requests_t *requests, const shared_requests_wish_t *wish,
                            shared_requests_answer_t answer, apr_time_t until, apr_time_t now)
{
    apr_uint32_t hash = hash_of(requests, wish);

    for (unsigned int place = SHARED_REQUESTS_PROBES; place-- > 0;) {
        shared_requests_slot_t *slot = probe(requests, hash, place);
        int done = 0;
        view_t view;

        do {
            look(&view, slot, wish, hash);
            if (phase_of(view.state) != WISHED && phase_of(view.state) != TAKEN) {
                break;
            }
            done = answer == SHARED_REQUESTS_NONE ? finish(slot, view.state)
                : keep(slot, view.state, answer, until, now);
        } while (!done);
        /* There is one entry; what is found now at the other places came after it. */
        if (done) {
            return;
        }
    }
}

void shared_requests_rewind(shared_requests_t *requests)
{
    for (unsigned int i = 0; i < SHARED_REQUESTS_SLOTS; i++) {
        shared_requests_slot_t *slot = &requests->slot[i];
        apr_uint32_t state;

        do {
            state = read_word(&slot->state);
        } while (((phase_of(state) == TAKEN || phase_of(state) == ANSWERING)
                  && !move(&slot->state, state, with_phase(state, WISHED)))
                 || (phase_of(state) == ANSWERED && !finish(slot, state)));
    }
}

void shared_requests_init(shared_requests_t *requests,
                          const unsigned char key[SHARED_REQUESTS_KEY_SIZE])
{
    memcpy(requests->key, key, SHARED_REQUESTS_KEY_SIZE);
}
