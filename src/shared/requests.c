/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/requests.h"

#include <string.h>

/* The phases of a slot: the low two bits of its state. The bits above count how often
 * the slot was used, so that an owner that slept for very long cannot take a later use of
 * its slot for its own. */
#define FREE 0U
#define WRITING 1U
#define READY 2U
#define CLOSING 3U
#define PHASE_MASK 3U
#define USE_ONE 4U

static apr_uint32_t phase_of(apr_uint32_t state)
{
    return state & PHASE_MASK;
}

static apr_uint32_t with_phase(apr_uint32_t state, apr_uint32_t phase)
{
    return (state & ~PHASE_MASK) | phase;
}

/* Move a slot from one state to another; non-zero when this caller did it. Compare-and-swap
 * is a full barrier in every APR, which plain set and read are not. */
static int move(volatile apr_uint32_t *word, apr_uint32_t from, apr_uint32_t to)
{
    return apr_atomic_cas32(word, to, from) == from;
}

/* Set a word that only its owner changes, with a full barrier on both sides. */
static void set_owned(volatile apr_uint32_t *word, apr_uint32_t value)
{
    move(word, apr_atomic_read32(word), value);
}

static apr_uint32_t seconds_of(apr_time_t now)
{
    apr_uint32_t seconds = (apr_uint32_t)apr_time_sec(now);

    return seconds ? seconds : 1;
}

static shared_requests_slot_t *probe(shared_requests_t *requests, apr_uint32_t hash,
                                     unsigned int i)
{
    return &requests->slot[(hash + i) & (SHARED_REQUESTS_SLOTS - 1)];
}

/* Non-zero when the owner of a slot had it for so long that it must be dead. */
static int is_stale(shared_requests_slot_t *slot, apr_time_t now)
{
    apr_uint32_t since = apr_atomic_read32(&slot->since);

    return since && (apr_int32_t)(seconds_of(now) - since) > SHARED_REQUESTS_STALE;
}

/* Free a slot in CLOSING: what the next owner relies on is cleared before. An owner that was
 * counted as dead finds another state and leaves the slot alone. */
static void release(shared_requests_slot_t *slot, apr_uint32_t closing)
{
    if (apr_atomic_read32(&slot->state) != closing) {
        return;
    }
    set_owned(&slot->hash, 0);
    set_owned(&slot->since, 0);
    move(&slot->state, closing, with_phase(closing + USE_ONE, FREE));
}

/* Give up a slot in WRITING that is this caller's own; another writer may have brought it
 * to CLOSING already. */
static void withdraw(shared_requests_slot_t *slot, apr_uint32_t writing)
{
    apr_uint32_t closing = with_phase(writing, CLOSING);

    move(&slot->state, writing, closing);
    release(slot, closing);
}

static int has_name(const shared_requests_slot_t *slot, const char *name)
{
    return strncmp(slot->name, name, BASE_HOSTNAME_SIZE) == 0;
}

/* Non-zero when the name is in the table or somebody is writing it there now. Two names with
 * one hash are not told apart while one is being written: the other asks again. */
static int is_known(shared_requests_t *requests, const char *name, apr_uint32_t hash,
                    apr_time_t now)
{
    for (unsigned int i = 0; i < SHARED_REQUESTS_PROBES; i++) {
        shared_requests_slot_t *slot = probe(requests, hash, i);
        apr_uint32_t phase = phase_of(apr_atomic_read32(&slot->state));

        if (apr_atomic_read32(&slot->hash) == hash
            && ((phase == READY && has_name(slot, name))
                || (phase == WRITING && !is_stale(slot, now)))) {
            return 1;
        }
    }
    return 0;
}

/* Bring the first free slot to WRITING; its number, or SHARED_REQUESTS_PROBES. */
static unsigned int claim(shared_requests_t *requests, apr_uint32_t hash, apr_uint32_t *writing)
{
    for (unsigned int i = 0; i < SHARED_REQUESTS_PROBES; i++) {
        shared_requests_slot_t *slot = probe(requests, hash, i);
        apr_uint32_t state = apr_atomic_read32(&slot->state);

        *writing = with_phase(state, WRITING);
        if (phase_of(state) == FREE && move(&slot->state, state, *writing)) {
            return i;
        }
    }
    return SHARED_REQUESTS_PROBES;
}

/*
 * Two writers can claim different slots for one name at the same time. Each makes its hash
 * visible first and looks at the others afterwards, so at least one sees the other: a name
 * that is READY wins, else the slot that is looked at first. The loser's slot is moved
 * to CLOSING, which its owner notices when it wants to make it READY.
 * Non-zero when the slot at place mine may go on.
 */
static int wins(shared_requests_t *requests, const char *name, apr_uint32_t hash,
                unsigned int mine, apr_time_t now)
{
    for (unsigned int i = 0; i < SHARED_REQUESTS_PROBES; i++) {
        shared_requests_slot_t *slot = probe(requests, hash, i);
        apr_uint32_t state;

        if (i == mine || apr_atomic_read32(&slot->hash) != hash) {
            continue;
        }
        state = apr_atomic_read32(&slot->state);
        if (phase_of(state) == WRITING && !is_stale(slot, now)) {
            if (i < mine) {
                return 0;
            }
            if (move(&slot->state, state, with_phase(state, CLOSING))) {
                continue;
            }
            state = apr_atomic_read32(&slot->state);
        }
        if (phase_of(state) == READY && has_name(slot, name)) {
            return 0;
        }
    }
    return 1;
}

int shared_requests_add(shared_requests_t *requests, const char *name, apr_time_t now)
{
    apr_uint32_t hash = base_hostname_hash(name);
    apr_uint32_t writing = 0;
    shared_requests_slot_t *slot;
    unsigned int mine;
    size_t len = strlen(name);

    if (len > BASE_HOSTNAME_MAX || is_known(requests, name, hash, now)) {
        return 0;
    }
    mine = claim(requests, hash, &writing);
    if (mine == SHARED_REQUESTS_PROBES) {
        return 0;
    }
    slot = probe(requests, hash, mine);
    set_owned(&slot->since, seconds_of(now));
    memcpy(slot->name, name, len + 1);
    set_owned(&slot->hash, hash);
    if (!wins(requests, name, hash, mine, now)
        || !move(&slot->state, writing, with_phase(writing, READY))) {
        withdraw(slot, writing);
        return 0;
    }
    return 1;
}

/* Look at a slot in WRITING or CLOSING: free it when its owner is dead. An owner killed before
 * it could set the time is given one now. */
static void bury(shared_requests_slot_t *slot, apr_uint32_t state, apr_time_t now)
{
    apr_uint32_t since = apr_atomic_read32(&slot->since);

    if (!since || (apr_int32_t)(seconds_of(now) - since) < 0) {
        move(&slot->since, since, seconds_of(now));
    }
    else if (is_stale(slot, now)
             && (phase_of(state) == CLOSING
                 || move(&slot->state, state, with_phase(state, CLOSING)))) {
        release(slot, with_phase(state, CLOSING));
    }
}

/* Copy the name of a slot in READY and free the slot. An owner that came back after it was
 * counted as dead may have written over the name; then the hash does not fit. */
static int take_ready(shared_requests_slot_t *slot, apr_uint32_t ready,
                      char name[BASE_HOSTNAME_SIZE])
{
    apr_uint32_t closing = with_phase(ready, CLOSING);
    apr_uint32_t hash;

    if (!move(&slot->state, ready, closing)) {
        return 0;
    }
    memcpy(name, slot->name, BASE_HOSTNAME_SIZE);
    name[BASE_HOSTNAME_SIZE - 1] = '\0';
    hash = apr_atomic_read32(&slot->hash);
    release(slot, closing);
    return base_hostname_hash(name) == hash;
}

int shared_requests_take(shared_requests_t *requests, unsigned int *cursor,
                         char name[BASE_HOSTNAME_SIZE], apr_time_t now)
{
    while (*cursor < SHARED_REQUESTS_SLOTS) {
        shared_requests_slot_t *slot = &requests->slot[(*cursor)++];
        apr_uint32_t state = apr_atomic_read32(&slot->state);

        switch (phase_of(state)) {
        case READY:
            if (take_ready(slot, state, name)) {
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
