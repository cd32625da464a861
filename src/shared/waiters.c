/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/waiters.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/types.h>

/*
 * A place goes
 *
 *     FREE (nobody waits) -> pid of a child -> CLEARING, the child is gone -> FREE
 *
 * A child looks for its place from the one that its pid says, and takes the first free one when it has
 * none. Two threads of a child that come first at the same time while places are freed may
 * take one each; therefore what counts is the sum over all places of a pid, and leave() counts down
 * whichever is not 0. A process killed while it is CLEARING costs the place.
 *
 * Never more than `most`: each counts itself first and then all others, with a full barrier in between.
 * Of those who wait at one moment, the one that counted itself last saw all of them.
 */
#define FREE 0U
#define CLEARING 0xffffffffU        /* no process has this number */

typedef struct sum_t {
    apr_uint32_t all;               /* that wait, of all children */
    apr_uint32_t here;              /* of them, in this one */
} sum_t;

/* Compare-and-swap is a full barrier in every APR, which plain set, read and increment are not. */
static int move(volatile apr_uint32_t *word, apr_uint32_t from, apr_uint32_t to)
{
    return apr_atomic_cas32(word, to, from) == from;
}

static void count_up(volatile apr_uint32_t *word)
{
    apr_uint32_t seen;

    do {
        seen = apr_atomic_read32(word);
    } while (!move(word, seen, seen + 1));
}

/* Zero when there was nothing to count down. */
static int count_down(volatile apr_uint32_t *word)
{
    apr_uint32_t seen;

    do {
        seen = apr_atomic_read32(word);
        if (!seen) {
            return 0;
        }
    } while (!move(word, seen, seen - 1));
    return 1;
}

static int is_child(apr_uint32_t pid)
{
    return pid != FREE && pid != CLEARING;
}

/* A process that may not be sent a signal is somebody else's that got the number. */
static int is_gone(apr_uint32_t pid)
{
    return pid > INT_MAX || (kill((pid_t)pid, 0) && (errno == ESRCH || errno == EPERM));
}

/* Free the places of children that are gone: those where somebody waits, or really all. Only
 * who brings a place to CLEARING clears it, so nobody clears what a new child counted there.
 * @return how many */
static int clear_gone(shared_waiters_t *waiters, int really_all)
{
    int cleared = 0;

    for (unsigned int i = 0; i < SHARED_WAITERS_CHILDREN; i++) {
        shared_waiters_child_t *child = &waiters->child[i];
        apr_uint32_t pid = apr_atomic_read32(&child->pid);

        if (is_child(pid) && (really_all || apr_atomic_read32(&child->waiting))
            && is_gone(pid) && move(&child->pid, pid, CLEARING)) {
            while (!move(&child->waiting, apr_atomic_read32(&child->waiting), 0)) {
            }
            move(&child->pid, CLEARING, FREE);
            cleared++;
        }
    }
    return cleared;
}

static shared_waiters_child_t *probe(shared_waiters_t *waiters, apr_uint32_t pid, unsigned int i)
{
    return &waiters->child[(pid + i) % SHARED_WAITERS_CHILDREN];
}

static shared_waiters_child_t *find(shared_waiters_t *waiters, apr_uint32_t pid)
{
    for (unsigned int i = 0; i < SHARED_WAITERS_CHILDREN; i++) {
        shared_waiters_child_t *child = probe(waiters, pid, i);

        if (apr_atomic_read32(&child->pid) == pid) {
            return child;
        }
    }
    return NULL;
}

static shared_waiters_child_t *claim(shared_waiters_t *waiters, apr_uint32_t pid)
{
    for (unsigned int i = 0; i < SHARED_WAITERS_CHILDREN; i++) {
        shared_waiters_child_t *child = probe(waiters, pid, i);

        if (apr_atomic_read32(&child->pid) == FREE && move(&child->pid, FREE, pid)) {
            return child;
        }
    }
    return NULL;
}

static shared_waiters_child_t *find_or_claim(shared_waiters_t *waiters, apr_uint32_t pid)
{
    shared_waiters_child_t *child = find(waiters, pid);

    if (!child) {
        child = claim(waiters, pid);
    }
    if (!child && clear_gone(waiters, 1)) {
        child = claim(waiters, pid);
    }
    return child;
}

static sum_t add_up(shared_waiters_t *waiters, apr_uint32_t here)
{
    sum_t sum = { 0, 0 };

    for (unsigned int i = 0; i < SHARED_WAITERS_CHILDREN; i++) {
        apr_uint32_t pid = apr_atomic_read32(&waiters->child[i].pid);
        apr_uint32_t waiting = is_child(pid) ? apr_atomic_read32(&waiters->child[i].waiting) : 0;

        sum.all += waiting;
        sum.here += pid == here ? waiting : 0;
    }
    return sum;
}

int shared_waiters_enter(shared_waiters_t *waiters, apr_uint32_t pid, apr_uint32_t most,
                         apr_uint32_t most_here)
{
    shared_waiters_child_t *child = is_child(pid) ? find_or_claim(waiters, pid) : NULL;
    sum_t sum;

    if (!child) {
        return 0;
    }
    do {
        count_up(&child->waiting);
        sum = add_up(waiters, pid);
        if (sum.all <= most && sum.here <= most_here) {
            return 1;
        }
        shared_waiters_leave(waiters, pid);
        /* Refused because of the dead? Not for long: what they left is gone after this. */
    } while (sum.here <= most_here && clear_gone(waiters, 0));
    return 0;
}

void shared_waiters_leave(shared_waiters_t *waiters, apr_uint32_t pid)
{
    for (unsigned int i = 0; i < SHARED_WAITERS_CHILDREN; i++) {
        shared_waiters_child_t *child = probe(waiters, pid, i);

        if (apr_atomic_read32(&child->pid) == pid && count_down(&child->waiting)) {
            return;
        }
    }
}

apr_uint32_t shared_waiters_count(shared_waiters_t *waiters)
{
    clear_gone(waiters, 0);
    return add_up(waiters, CLEARING).all;
}
