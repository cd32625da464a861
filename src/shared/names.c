/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/names.h"

#include <apr_atomic.h>
#include <apr_siphash.h>
#include <string.h>

/*
 * The layout, in 32-bit words:
 *
 *     magic | slots | key (4 words) | state
 *     partial of bank 0, 1 | used of bank 0, 1 | stamp of bank 0, 1
 *     slots of bank 0: a fingerprint each, 0 is free
 *     slots of bank 1
 *
 * The low bits of a name's SipHash are the number of the slot where to look first, the upper 32 bits
 * its fingerprint. A name stands in the first slot from there that was free, at most PROBES slots
 * away. Slots are emptied all together only, so the first free slot ends every search.
 *
 * The state is one word, so that a compare-and-swap changes all of it, or nothing when anything changed:
 *
 *     count (13 bits) | since (14) | FILLING | EMPTYING | BEFORE | FILLED | BANK
 *
 *     idle --begin--> EMPTYING --begin--> FILLING --commit, abandon--> idle
 *                         |                  |
 *                         +---- replaced ----+---> EMPTYING of the next writer
 *
 * The writer's claim is the word while it is FILLING. Each begin() counts one up and notes its second,
 * so a word comes back only after 8192 writers and in the same second of 4.5 hours. Reading one state
 * before and after something therefore means that there was no other in between.
 *
 * Why a name that is added while a writer works is in the bank that is committed. Who adds stores a
 * file first and calls add() then; the writer lists files after begin(). add() reads the state, writes
 * to the bank in use, and to the other one if the state is FILLING, reads the state again and starts
 * anew unless it is the same. Take the last round, in which it was one state all the time, and a writer
 * that commits at some moment:
 *   - it committed before the round: its bank, or a later one, is the bank in use and gets the name;
 *   - it was FILLING during the round: its bank gets the name, and only an EMPTYING writer takes
 *     names out again;
 *   - it was EMPTYING in the round, or came later: begin() returned after the file was stored, so the
 *     listing has it. If nothing is listed, because the set is turned over to forget: the name is in the
 *     bank that was in use before.
 * A bank without room for the name is marked as partial instead, with the same argument. Without the second
 * look, the bank written to could be one that a writer empties by then.
 *
 * A writer that is replaced while it is EMPTYING, and was not dead but asleep between looking at the state
 * and clearing a slot, may clear that one slot in a bank that is in use by now. It finds out right
 * afterwards and marks the bank as damaged. A put() that slept at the same place leaves one name of its
 * list; what it cannot do is take a name away.
 */
#define MAGIC 0x41434e53U       /* "ACNS" */
#define SLOTS_MIN 1024U
#define PROBES 256U             /* slots looked at for one name */
#define LOOKS 8                 /* how often a reader starts again because a writer moved on */

#define BANK 1U                 /* number of the bank in use */
#define FILLED 2U               /* a bank was committed once */
#define BEFORE 4U               /* the other bank is the one that was in use before, untouched */
#define EMPTYING 8U             /* the other bank is being emptied */
#define FILLING 16U             /* the other bank is being filled */
#define WRITING (EMPTYING | FILLING)
#define SINCE_SHIFT 5           /* seconds, cut to 14 bits, when the writer began */
#define SINCE_MASK 0x3fffU
#define COUNT_SHIFT 19

/* What makes a bank partial, 0 nothing; while it is being emptied the state of the writer stands there. */
#define OVERFULL 1U             /* a name found no room */
#define DAMAGED 2U              /* a replaced writer may have cleared a slot */

struct shared_names_t {
    apr_uint32_t magic;
    apr_uint32_t slots;                 /* of each bank, a power of two */
    unsigned char key[SHARED_NAMES_KEY_SIZE];
    volatile apr_uint32_t state;
    volatile apr_uint32_t partial[2];   /* not 0: what a bank does not have may be missing */
    volatile apr_uint32_t used[2];      /* about how many slots, for the load */
    volatile apr_uint32_t stamp[2];
    volatile apr_uint32_t slot[];
};

typedef struct hash_t {
    apr_uint32_t place;
    apr_uint32_t fingerprint;
} hash_t;

/* Change a word from one value to another; non-zero when this caller did it. Compare-and-swap is a
 * full barrier in every APR, which plain set and read are not. */
static int move(volatile apr_uint32_t *word, apr_uint32_t from, apr_uint32_t to)
{
    return apr_atomic_cas32(word, to, from) == from;
}

static void set(volatile apr_uint32_t *word, apr_uint32_t value)
{
    while (!move(word, apr_atomic_read32(word), value)) {
    }
}

/* The state, with a full barrier: what was read or written before stays before. */
static apr_uint32_t read_state(shared_names_t *names)
{
    return apr_atomic_cas32(&names->state, 0, 0);
}

static unsigned int bank_in_use(apr_uint32_t state)
{
    return state & BANK;
}

static unsigned int other_bank(apr_uint32_t state)
{
    return bank_in_use(state) ^ 1;
}

static volatile apr_uint32_t *slots_of(shared_names_t *names, unsigned int bank)
{
    return names->slot + (apr_size_t)bank * names->slots;
}

static hash_t hash(const shared_names_t *names, const char *name)
{
    apr_uint64_t sip = apr_siphash24(name, strlen(name), names->key);
    hash_t h = { (apr_uint32_t)sip, (apr_uint32_t)(sip >> 32) };

    if (!h.fingerprint) {
        h.fingerprint = 1;
    }
    return h;
}

static shared_names_answer_t look(shared_names_t *names, unsigned int bank, hash_t h)
{
    volatile apr_uint32_t *slot = slots_of(names, bank);

    for (apr_uint32_t i = 0; i < PROBES; i++) {
        apr_uint32_t seen = apr_atomic_read32(&slot[(h.place + i) & (names->slots - 1)]);

        if (seen == h.fingerprint) {
            return SHARED_NAMES_YES;
        }
        if (!seen) {
            break;
        }
    }
    return apr_atomic_read32(&names->partial[bank]) ? SHARED_NAMES_UNKNOWN : SHARED_NAMES_NO;
}

/* Non-zero when the bank has the name now. */
static int insert(shared_names_t *names, unsigned int bank, hash_t h)
{
    volatile apr_uint32_t *slots = slots_of(names, bank);

    for (apr_uint32_t i = 0; i < PROBES; i++) {
        volatile apr_uint32_t *slot = &slots[(h.place + i) & (names->slots - 1)];
        apr_uint32_t seen = apr_atomic_read32(slot);

        if (!seen) {
            if (apr_atomic_read32(&names->used[bank]) >= names->slots / 4 * 3) {
                break;
            }
            seen = apr_atomic_cas32(slot, h.fingerprint, 0);
            if (!seen) {
                apr_atomic_inc32(&names->used[bank]);
                return 1;
            }
        }
        if (seen == h.fingerprint) {
            return 1;
        }
    }
    move(&names->partial[bank], 0, OVERFULL);
    return 0;
}

apr_uint32_t shared_names_slots(apr_size_t names)
{
    apr_uint32_t slots = SLOTS_MIN;

    while (slots < SHARED_NAMES_SLOTS_MAX && slots / 2 < names) {
        slots *= 2;
    }
    return slots;
}

apr_size_t shared_names_size(apr_uint32_t slots)
{
    return sizeof(shared_names_t) + 2 * sizeof(apr_uint32_t) * (apr_size_t)slots;
}

void shared_names_init(void *memory, apr_uint32_t slots,
                       const unsigned char key[SHARED_NAMES_KEY_SIZE])
{
    shared_names_t *names = memory;

    names->magic = MAGIC;
    names->slots = slots;
    memcpy(names->key, key, SHARED_NAMES_KEY_SIZE);
}

shared_names_t *shared_names_attach(void *memory, apr_size_t size)
{
    shared_names_t *names = memory;

    if (!names || size < sizeof(*names) || names->magic != MAGIC || !names->slots
        || names->slots > SHARED_NAMES_SLOTS_MAX || (names->slots & (names->slots - 1))
        || shared_names_size(names->slots) != size) {
        return NULL;
    }
    return names;
}

shared_names_answer_t shared_names_find(shared_names_t *names, const char *name)
{
    hash_t h = hash(names, name);

    for (int i = 0; i < LOOKS; i++) {
        apr_uint32_t state = read_state(names);
        shared_names_answer_t answer = look(names, bank_in_use(state), h);

        if (answer == SHARED_NAMES_NO && !(state & FILLED)) {
            answer = SHARED_NAMES_UNKNOWN;
        }
        if (read_state(names) == state) {
            return answer;
        }
    }
    return SHARED_NAMES_UNKNOWN;
}

int shared_names_find_recent(shared_names_t *names, const char *name)
{
    hash_t h = hash(names, name);

    for (int i = 0; i < LOOKS; i++) {
        apr_uint32_t state = read_state(names);
        int found = !(state & FILLED) || look(names, bank_in_use(state), h) != SHARED_NAMES_NO
            || ((state & BEFORE) && look(names, other_bank(state), h) != SHARED_NAMES_NO);

        if (read_state(names) == state) {
            return found;
        }
    }
    return 1;
}

void shared_names_add(shared_names_t *names, const char *name)
{
    hash_t h = hash(names, name);
    apr_uint32_t state, after = read_state(names);

    do {
        state = after;
        insert(names, bank_in_use(state), h);
        if (state & FILLING) {
            insert(names, other_bank(state), h);
        }
        after = read_state(names);
    } while (after != state);
}

/* Non-zero when the writer began so long ago that it must be dead. More than that ahead is as long
 * ago: the clock was set back. */
static int is_stale(apr_uint32_t state, apr_time_t now)
{
    apr_uint32_t since = state >> SINCE_SHIFT & SINCE_MASK;
    apr_uint32_t age = ((apr_uint32_t)apr_time_sec(now) - since) & SINCE_MASK;

    return age > SHARED_NAMES_STALE && age < SINCE_MASK + 1 - SHARED_NAMES_STALE;
}

/* Empty the bank that is not in use; zero when this writer was replaced. The bank is partial until
 * its last slot is free. Each slot is read before the state is, so a writer that slept in between
 * clears it only if the same name stands there anew. */
static int empty(shared_names_t *names, apr_uint32_t emptying)
{
    unsigned int bank = other_bank(emptying);
    volatile apr_uint32_t *slot = slots_of(names, bank);

    set(&names->partial[bank], emptying);
    set(&names->used[bank], 0);
    for (apr_uint32_t i = 0; i < names->slots; i++) {
        apr_uint32_t seen = apr_atomic_read32(&slot[i]);

        if (seen) {
            if (read_state(names) != emptying) {
                return 0;
            }
            move(&slot[i], seen, 0);
        }
    }
    move(&names->partial[bank], emptying, 0);
    return 1;
}

apr_uint32_t shared_names_begin(shared_names_t *names, apr_time_t now)
{
    apr_uint32_t state = read_state(names);
    apr_uint32_t since = (apr_uint32_t)apr_time_sec(now) & SINCE_MASK;
    apr_uint32_t count = (state >> COUNT_SHIFT) + 1;
    apr_uint32_t kept = count << COUNT_SHIFT | since << SINCE_SHIFT | (state & (FILLED | BANK));

    if (((state & WRITING) && !is_stale(state, now))
        || !move(&names->state, state, kept | EMPTYING)) {
        return 0;
    }
    if (!empty(names, kept | EMPTYING) || !move(&names->state, kept | EMPTYING, kept | FILLING)) {
        set(&names->partial[other_bank(kept)], DAMAGED);
        return 0;
    }
    return kept | FILLING;
}

/* Non-zero when the claim is that of the writer at work. */
static int is_writer(shared_names_t *names, apr_uint32_t claim)
{
    return read_state(names) == claim && (claim & FILLING);
}

int shared_names_put(shared_names_t *names, apr_uint32_t claim, const char *name)
{
    hash_t h = hash(names, name);

    return is_writer(names, claim) && insert(names, other_bank(claim), h);
}

void shared_names_commit(shared_names_t *names, apr_uint32_t claim, apr_uint32_t stamp)
{
    volatile apr_uint32_t *word = &names->stamp[other_bank(claim)];
    apr_uint32_t seen;

    /* The stamp is read before the state: a replaced writer does not change its successor's. */
    do {
        seen = apr_atomic_read32(word);
        if (!is_writer(names, claim)) {
            return;
        }
    } while (!move(word, seen, stamp));
    move(&names->state, claim, ((claim ^ BANK) | FILLED | BEFORE) & ~WRITING);
}

void shared_names_abandon(shared_names_t *names, apr_uint32_t claim)
{
    move(&names->state, claim, claim & ~WRITING);
}

apr_uint32_t shared_names_stamp(shared_names_t *names)
{
    for (int i = 0; i < LOOKS; i++) {
        apr_uint32_t state = read_state(names);
        unsigned int bank = bank_in_use(state);
        apr_uint32_t partial = apr_atomic_read32(&names->partial[bank]);
        apr_uint32_t stamp = apr_atomic_read32(&names->stamp[bank]);

        if (read_state(names) == state) {
            return partial <= OVERFULL ? stamp : 0;
        }
    }
    return 0;
}
