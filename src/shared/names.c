/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 *     header | bank 0: slots | bank 1: slots
 *
 * A slot is 0 or the upper half of a name's hash; the lower half says where to begin looking. The
 * generation counts commits; its lowest bit is the bank in use. What a reader saw counts only if the
 * generation is still the same afterwards: the bank it read could have been emptied for a new writer
 * else, but never before another commit.
 */
#include "shared/names.h"

#include <string.h>

#include <apr_atomic.h>
#include <apr_siphash.h>

#define MAGIC 0x61636e61U
#define SLOTS_MIN 1024u
#define PROBES 256u             /* slots looked at for one name */
#define TRIES 4                 /* a reader that is overtaken by so many commits gives up */

struct shared_names_t {
    apr_uint32_t magic;
    apr_uint32_t slots;                 /* of one bank, a power of two */
    unsigned char key[SHARED_NAMES_KEY_SIZE];
    volatile apr_uint32_t generation;   /* 0: nothing was committed */
    volatile apr_uint32_t writer;       /* token, 0: none */
    volatile apr_uint32_t since;        /* second when that one began, cut to 32 bits */
    volatile apr_uint32_t tokens;       /* given out so far */
    volatile apr_uint32_t stamp;
    volatile apr_uint32_t count[2];     /* names in each bank */
    volatile apr_uint32_t overflowed[2];
    volatile apr_uint32_t slot[];
};

/* Where a name is looked for, and what stands there. */
typedef struct mark_t {
    apr_uint32_t start;
    apr_uint32_t print;                 /* never 0 */
} mark_t;

/* Compare-and-swap is a full barrier in every APR, which plain reads and writes are not. */
static int move(volatile apr_uint32_t *word, apr_uint32_t from, apr_uint32_t to)
{
    return apr_atomic_cas32(word, to, from) == from;
}

static apr_uint32_t read_ordered(volatile apr_uint32_t *word)
{
    return apr_atomic_cas32(word, 0, 0);
}

static mark_t mark_of(const shared_names_t *names, const char *name)
{
    apr_uint64_t hash = apr_siphash24(name, strlen(name), names->key);
    mark_t mark = { (apr_uint32_t)hash & (names->slots - 1), (apr_uint32_t)(hash >> 32) };

    mark.print = mark.print ? mark.print : 1;
    return mark;
}

static volatile apr_uint32_t *slot_at(shared_names_t *names, apr_uint32_t bank, mark_t mark,
                                      apr_uint32_t probe)
{
    return &names->slot[bank * names->slots + ((mark.start + probe) & (names->slots - 1))];
}

static int is_in(shared_names_t *names, apr_uint32_t bank, mark_t mark)
{
    for (apr_uint32_t i = 0; i < PROBES; i++) {
        apr_uint32_t print = apr_atomic_read32(slot_at(names, bank, mark, i));

        if (print == mark.print) {
            return 1;
        }
        if (print == 0) {
            return 0;
        }
    }
    return 0;
}

/* @return zero when there was no room */
static int insert(shared_names_t *names, apr_uint32_t bank, mark_t mark)
{
    for (apr_uint32_t i = 0; i < PROBES; i++) {
        volatile apr_uint32_t *slot = slot_at(names, bank, mark, i);
        apr_uint32_t print = apr_atomic_read32(slot);

        if (print == 0) {
            /* A quarter stays empty, or looking for what is not there would take long. */
            if (apr_atomic_read32(&names->count[bank]) >= names->slots / 4 * 3) {
                break;
            }
            print = apr_atomic_cas32(slot, mark.print, 0);
            if (print == 0) {
                apr_atomic_inc32(&names->count[bank]);
                return 1;
            }
        }
        if (print == mark.print) {
            return 1;
        }
    }
    apr_atomic_set32(&names->overflowed[bank], 1);
    return 0;
}

apr_uint32_t shared_names_slots(apr_size_t count)
{
    apr_uint32_t slots = SLOTS_MIN;

    while (slots < SHARED_NAMES_SLOTS_MAX && slots / 2 < count) {
        slots *= 2;
    }
    return slots;
}

apr_size_t shared_names_size(apr_uint32_t slots)
{
    return sizeof(shared_names_t) + 2 * (apr_size_t)slots * sizeof(apr_uint32_t);
}

void shared_names_init(void *memory, apr_uint32_t slots,
                       const unsigned char key[SHARED_NAMES_KEY_SIZE])
{
    shared_names_t *names = memory;

    names->slots = slots;
    memcpy(names->key, key, SHARED_NAMES_KEY_SIZE);
    names->magic = MAGIC;
}

shared_names_t *shared_names_attach(void *memory, apr_size_t size)
{
    shared_names_t *names = memory;

    if (!names || size < sizeof(*names) || names->magic != MAGIC
        || names->slots < SLOTS_MIN || names->slots > SHARED_NAMES_SLOTS_MAX
        || (names->slots & (names->slots - 1)) != 0 || shared_names_size(names->slots) > size) {
        return NULL;
    }
    return names;
}

shared_names_answer_t shared_names_find(shared_names_t *names, const char *name)
{
    mark_t mark = mark_of(names, name);

    for (int i = 0; i < TRIES; i++) {
        apr_uint32_t generation = read_ordered(&names->generation), bank = generation & 1;
        int found, overflowed;

        if (generation == 0) {
            return SHARED_NAMES_UNKNOWN;
        }
        found = is_in(names, bank, mark);
        overflowed = apr_atomic_read32(&names->overflowed[bank]) != 0;
        if (read_ordered(&names->generation) == generation) {
            return found ? SHARED_NAMES_YES : overflowed ? SHARED_NAMES_UNKNOWN : SHARED_NAMES_NO;
        }
    }
    return SHARED_NAMES_UNKNOWN;
}

int shared_names_find_recent(shared_names_t *names, const char *name)
{
    mark_t mark = mark_of(names, name);

    return read_ordered(&names->generation) == 0 || apr_atomic_read32(&names->overflowed[0])
        || apr_atomic_read32(&names->overflowed[1]) || is_in(names, 0, mark) || is_in(names, 1, mark);
}

/*
 * Whoever calls this has stored what the name stands for before. A writer lists what is stored after
 * begin(), which makes it the writer first and empties the bank then. So either the writer's list has the
 * name, or the writer had begun before it was stored: then it is seen here, and the name goes into its
 * bank too; and if it is emptied just now, the list is still to come. A writer that committed
 * meanwhile is noticed by the generation.
 */
void shared_names_add(shared_names_t *names, const char *name)
{
    mark_t mark = mark_of(names, name);
    apr_uint32_t generation;

    do {
        generation = read_ordered(&names->generation);
        insert(names, generation & 1, mark);
        if (read_ordered(&names->writer)) {
            insert(names, (generation + 1) & 1, mark);
        }
    } while (read_ordered(&names->generation) != generation);
}

static apr_uint32_t second_of(apr_time_t now)
{
    return (apr_uint32_t)apr_time_sec(now);
}

apr_uint32_t shared_names_begin(shared_names_t *names, apr_time_t now)
{
    apr_uint32_t writer = read_ordered(&names->writer), bank, token;

    if (writer && second_of(now) - apr_atomic_read32(&names->since) <= SHARED_NAMES_STALE) {
        return 0;
    }
    token = apr_atomic_inc32(&names->tokens) + 1;
    token = token ? token : apr_atomic_inc32(&names->tokens) + 1;
    if (!move(&names->writer, writer, token)) {
        return 0;
    }
    apr_atomic_set32(&names->since, second_of(now));
    bank = (read_ordered(&names->generation) + 1) & 1;
    for (apr_uint32_t i = 0; i < names->slots; i++) {
        apr_atomic_set32(&names->slot[bank * names->slots + i], 0);
    }
    apr_atomic_set32(&names->count[bank], 0);
    apr_atomic_set32(&names->overflowed[bank], 0);
    return read_ordered(&names->writer) == token ? token : 0;
}

int shared_names_put(shared_names_t *names, apr_uint32_t token, const char *name)
{
    if (!token || read_ordered(&names->writer) != token) {
        return 0;
    }
    return insert(names, (read_ordered(&names->generation) + 1) & 1, mark_of(names, name));
}

/* The stamp first: who sees the new bank sees what it was filled from. */
void shared_names_commit(shared_names_t *names, apr_uint32_t token, apr_uint32_t stamp)
{
    apr_uint32_t generation = read_ordered(&names->generation);
    apr_uint32_t next = generation + 1;

    if (!token || read_ordered(&names->writer) != token) {
        return;
    }
    apr_atomic_set32(&names->stamp, stamp);
    /* 0 says that nothing was committed; 2 is the same bank. */
    move(&names->generation, generation, next ? next : 2);
    move(&names->writer, token, 0);
}

void shared_names_abandon(shared_names_t *names, apr_uint32_t token)
{
    if (token) {
        move(&names->writer, token, 0);
    }
}

apr_uint32_t shared_names_stamp(shared_names_t *names)
{
    return read_ordered(&names->generation) ? apr_atomic_read32(&names->stamp) : 0;
}
