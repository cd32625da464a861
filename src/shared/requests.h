/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/requests.h
 * What handshakes ask of the elected child, and its answers: one entry for each wish (a name, the
 * vhost it was asked of, the kind of key), so however many clients come for a name, it is asked for
 * once. A bounded table; a full one drops the wish, the next handshake asks again. Any thread of any
 * process; lock-free, never blocks. It lives on over a graceful restart: a wish left in the old
 * generation is taken by the new one.
 *
 * An entry goes
 *
 *     FREE -> WRITING -> WISHED -> TAKEN -> FREE          the certificate is there
 *                                    |
 *                                    v
 *                                 ANSWERED -> FREE        "no" or "not now", until a moment
 *
 * by compare-and-swap, with CLOSING before FREE while its owner clears it and ANSWERING before ANSWERED
 * while the answer is written. An ANSWERED entry whose moment has passed counts as free, and so does one
 * that a clock set back since would keep for longer than it was meant to; when there is no free place
 * for a new wish, the ANSWERED entry that would end first is given up. An owner killed in WRITING or
 * CLOSING costs the entry until shared_requests_take() sees that it is too old, one killed in
 * ANSWERING until shared_requests_rewind().
 */
#ifndef SHARED_REQUESTS_H
#define SHARED_REQUESTS_H

#include <apr_atomic.h>
#include <apr_time.h>

#include "base/hostname.h"

#define SHARED_REQUESTS_SLOTS 4096      /* a power of two */
#define SHARED_REQUESTS_PROBES 16       /* slots looked at for one wish */
#define SHARED_REQUESTS_STALE 30        /* seconds after which an owner counts as dead */
#define SHARED_REQUESTS_CLIENT_SIZE 48  /* bytes with the NUL: the text of an IP address */
#define SHARED_REQUESTS_KEY_SIZE 16

typedef struct shared_requests_slot_t {
    volatile apr_uint32_t state;        /* low three bits: the phase; above them a count of its uses */
    volatile apr_uint32_t hash;         /* keyed hash of the wish, 0 not yet known */
    volatile apr_uint32_t since;        /* WRITING began: seconds since the epoch, cut to 32 bits;
                                           0 unknown */
    volatile apr_uint32_t until;        /* the same, of the answer's end */
    volatile apr_uint32_t answer;       /* shared_requests_answer_t in two bits; above: seconds kept */
    apr_uint32_t vhost;
    apr_uint32_t kind;
    char client[SHARED_REQUESTS_CLIENT_SIZE];
    char name[BASE_HOSTNAME_SIZE];
} shared_requests_slot_t;

typedef struct shared_requests_t {
    unsigned char key[SHARED_REQUESTS_KEY_SIZE];
    shared_requests_slot_t slot[SHARED_REQUESTS_SLOTS];
} shared_requests_t;

/** What is wished for. name, vhost and kind tell wishes apart. */
typedef struct shared_requests_wish_t {
    char name[BASE_HOSTNAME_SIZE];
    apr_uint32_t vhost;                 /* identity of the policy that was asked (manager/policy.h) */
    apr_uint32_t kind;                  /* 0: the first key type, 1: the second */
    char client[SHARED_REQUESTS_CLIENT_SIZE];   /* address of the first who asked, "" unknown */
} shared_requests_wish_t;

/** What is known of a wish. */
typedef enum {
    SHARED_REQUESTS_NONE,               /* nobody asked, or it was fulfilled */
    SHARED_REQUESTS_PENDING,            /* asked and not answered yet */
    SHARED_REQUESTS_REFUSED,            /* answered: the name is not to have a certificate */
    SHARED_REQUESTS_FAILED              /* answered: it could not be obtained, no try before a moment */
} shared_requests_answer_t;

typedef enum {
    SHARED_REQUESTS_ADDED,              /* for the first time: wake the elected child */
    SHARED_REQUESTS_KNOWN,              /* it is there already, pending or answered */
    SHARED_REQUESTS_FULL                /* there was no room */
} shared_requests_added_t;

/** Once, on zeroed memory. @param key random bytes */
void shared_requests_init(shared_requests_t *requests,
                          const unsigned char key[SHARED_REQUESTS_KEY_SIZE]);

/** Leave a wish. */
shared_requests_added_t shared_requests_add(shared_requests_t *requests,
                                            const shared_requests_wish_t *wish, apr_time_t now);

/** What is known of a wish now (the client does not count). */
shared_requests_answer_t shared_requests_find(shared_requests_t *requests,
                                              const shared_requests_wish_t *wish, apr_time_t now);

/**
 * Take one wish, which stays PENDING for everybody until it is answered; called by the elected child
 * only. @param cursor where to go on; begin with 0, the walk ends at SHARED_REQUESTS_SLOTS
 * @return non-zero when a wish was taken, zero at the end of the walk
 */
int shared_requests_take(shared_requests_t *requests, unsigned int *cursor,
                         shared_requests_wish_t *wish, apr_time_t now);

/**
 * The elected child: answer a wish that is pending. What is not there is left alone.
 * @param answer NONE: it is fulfilled, the entry goes; REFUSED or FAILED: kept until the moment
 */
void shared_requests_answer(shared_requests_t *requests, const shared_requests_wish_t *wish,
                            shared_requests_answer_t answer, apr_time_t until, apr_time_t now);

/** A newly elected child: what its predecessor took and did not answer is to be taken again, and what it
 * answered is forgotten, as the configuration may have changed since. */
void shared_requests_rewind(shared_requests_t *requests);

#endif
