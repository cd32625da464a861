/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/names.h
 * A set of names in shared memory: which names a policy file lists, which names have a
 * certificate in the cache, which were visited lately. What is kept of a name is a keyed hash
 * (SipHash, apr_siphash.h; 32 bits beside its place in the table), so 100,000 names take half a
 * megabyte for all processes together, and nobody outside can choose names that collide.
 *
 * Two banks: readers use one while the other is filled anew. Readers and add() are lock-free, never
 * block, any thread of any process. begin(), put(), commit() and abandon() are for one writer at a
 * time, whom begin() chooses and gives a claim, any thread of any process; they never block either.
 * A writer that began more than SHARED_NAMES_STALE ago may be dead and is replaced by the next who
 * calls begin(); if it was only slow, its claim has become worthless: the other three do nothing then.
 */
#ifndef SHARED_NAMES_H
#define SHARED_NAMES_H

#include <apr_pools.h>
#include <apr_time.h>

#define SHARED_NAMES_STALE 60       /* seconds after which a writer counts as dead */
#define SHARED_NAMES_KEY_SIZE 16    /* bytes of the key of the hash */
#define SHARED_NAMES_SLOTS_MAX (1U << 26)

typedef struct shared_names_t shared_names_t;

typedef enum {
    SHARED_NAMES_NO,
    SHARED_NAMES_YES,       /* it is; wrongly so for about one name in 10^9 that is not */
    SHARED_NAMES_UNKNOWN    /* the set was never filled, or has more names than room */
} shared_names_answer_t;

/** The power of two of slots that holds so many names with room to spare (a load of at most one
 * half); at least 1024, at most SHARED_NAMES_SLOTS_MAX. */
apr_uint32_t shared_names_slots(apr_size_t names);

/** Bytes of a set with so many slots (a power of two) in each bank. */
apr_size_t shared_names_size(apr_uint32_t slots);

/** Lay it out in memory of that size, all zeros; before anybody else can see it.
 * @param key random bytes */
void shared_names_init(void *memory, apr_uint32_t slots,
                       const unsigned char key[SHARED_NAMES_KEY_SIZE]);

/** Find one laid out before. @return NULL when the memory is no set of that size */
shared_names_t *shared_names_attach(void *memory, apr_size_t size);

/** Is the name in the set? */
shared_names_answer_t shared_names_find(shared_names_t *names, const char *name);

/** Non-zero when the name is in the bank in use or in the one before it, or the set cannot know:
 * for sets that are turned over by begin() and commit() to forget what is old. */
int shared_names_find_recent(shared_names_t *names, const char *name);

/** Put a name into the bank in use, and into the one being filled if there is one. */
void shared_names_add(shared_names_t *names, const char *name);

/** Become the writer and empty the other bank. Only what is looked up after begin() may be put: who
 * stores a file calls add() afterwards, so a writer that lists files after begin() misses none.
 * @return the claim for put(), commit() and abandon(), 0 when somebody else is writing */
apr_uint32_t shared_names_begin(shared_names_t *names, apr_time_t now);

/** The writer: put a name into the bank that is being filled.
 * @return 0 when there is no room (the set answers UNKNOWN for names it does not have then), or the
 *         writer was replaced */
int shared_names_put(shared_names_t *names, apr_uint32_t claim, const char *name);

/** The writer: use the filled bank from now on. @param stamp any number that tells what it was
 * filled from, for stamp() */
void shared_names_commit(shared_names_t *names, apr_uint32_t claim, apr_uint32_t stamp);

/** The writer: leave the bank in use as it is. (The one before it is lost to find_recent().) */
void shared_names_abandon(shared_names_t *names, apr_uint32_t claim);

/** The stamp of the bank in use; 0 when none was ever committed, or when a replaced writer came back
 * and did harm to it (UNKNOWN instead of NO until it is filled anew). */
apr_uint32_t shared_names_stamp(shared_names_t *names);

#endif
