/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/ledger.h
 * What is remembered about a certificate over restarts: the private record KEY+state beside the
 * certificate's own key ("example.org+state", "example.org+rsa+state"), so two kinds of key of one
 * name do not wait for each other's failures. Whoever holds the name's lock writes it; any thread may
 * read. Blocks on the cache.
 */
#ifndef MANAGER_LEDGER_H
#define MANAGER_LEDGER_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "cache/cache.h"
#include "crypto/bundle.h"
#include "manager/ca.h"

#define MANAGER_LEDGER_CA_MAX 256       /* bytes with the NUL: a directory or account URL, cut */
#define MANAGER_LEDGER_ID_MAX 40        /* bytes with the NUL: acme_client_config_t.id, cut */
#define MANAGER_LEDGER_CHALLENGE_MAX 32
#define MANAGER_LEDGER_FINGERPRINT_SIZE 33      /* bytes with the NUL: crypto_bundle_fingerprint() */
#define MANAGER_LEDGER_EXPLANATION_MAX 256
#define MANAGER_LEDGER_VALIDATIONS 4    /* that may fail in an hour */
#define MANAGER_LEDGER_VALIDATIONS_PERIOD apr_time_from_sec(3600)
#define MANAGER_LEDGER_WAIT_FIRST apr_time_from_sec(60)     /* after the first failure */
#define MANAGER_LEDGER_WAIT_MAX apr_time_from_sec(24 * 3600)
#define MANAGER_LEDGER_WAIT_MIN apr_time_from_sec(1)        /* for certificates of minutes */
#define MANAGER_LEDGER_FAILING 2        /* failures in a row at one CA, and the next one is tried */

/** How the name fares at one CA, since its last success anywhere. */
typedef struct manager_ledger_ca_t {
    char id[MANAGER_LEDGER_ID_MAX];     /* "": unused */
    int failures;                       /* in a row */
    apr_time_t until;                   /* the CA wants nothing of this name before then; 0: none */
} manager_ledger_ca_t;

typedef struct manager_ledger_t {
    /* trying */
    int failures;                       /* in a row, at whatever CA; 0 after a success */
    apr_time_t next_try;                /* not before; 0: at once */
    base_error_t problem;               /* of the last failure; kind NONE without one */
    char problem_ca[MANAGER_LEDGER_ID_MAX];     /* id of the CA it happened with */
    manager_ledger_ca_t cas[MANAGER_CA_MAX];
    apr_time_t failed_validations[MANAGER_LEDGER_VALIDATIONS];  /* newest first, 0: none; a success
                                         * clears them not: CAs count them on */
    apr_uint64_t configuration;         /* manager_policy_fingerprint() that the failures belong to */
    /* the certificate that was issued last */
    char certificate[MANAGER_LEDGER_FINGERPRINT_SIZE];  /* its fingerprint; "": unknown. All that
                                         * follows speaks of this one only */
    char ca[MANAGER_LEDGER_CA_MAX];     /* directory URL of the CA that issued, "" unknown */
    char account[MANAGER_LEDGER_CA_MAX];        /* URL of the account there */
    int test;                           /* that CA was a test CA */
    apr_time_t issued;                  /* when it was stored */
    int hasty;                          /* how many issuances in a row came soon after the one before
                                         * because of a window (manager/renewal.h) */
    /* renewal information (RFC 9773) about it */
    apr_time_t window_start;            /* 0: none is known */
    apr_time_t window_end;
    apr_time_t window_chosen;           /* the instant in it, chosen once */
    apr_time_t info_next;               /* when the CA is asked again; 0: at once */
    int info_failures;                  /* in a row, of a CA that did not answer */
    char explanation[MANAGER_LEDGER_EXPLANATION_MAX];   /* the CA's URL for people, "" */
    /* over certificates */
    char challenge[MANAGER_LEDGER_CHALLENGE_MAX];   /* the kind that last worked, "" none */
    apr_time_t visited;                 /* when a client last asked for it; 0: unknown */
} manager_ledger_t;

/** Read the record of a certificate; one that is missing, unreadable or of another layout is
 * all zeros ("nothing known"), never an error. Members that are missing are zeros.
 * @param key the certificate's in the cache, as of manager_policy_cache_key() */
void manager_ledger_load(manager_ledger_t *ledger, cache_t *cache, const char *key,
                         apr_pool_t *pool);

/** Non-zero when what the ledger says of a certificate is about this one: another program may have stored
 * another. */
int manager_ledger_is_about(const manager_ledger_t *ledger, const crypto_bundle_t *bundle);

/** Write it. */
apr_status_t manager_ledger_store(const manager_ledger_t *ledger, cache_t *cache,
                                  const char *key, apr_pool_t *pool);

/** The configuration of the name is this one: when the record is of another, its failures, waits and
 * problem are forgotten. Not the failed validations, which CAs count on: with none left next_try is when
 * there is one again. @return non-zero when it was of another */
int manager_ledger_reconfigure(manager_ledger_t *ledger, apr_uint64_t configuration, apr_time_t now);

/** One failed attempt. */
typedef struct manager_ledger_failure_t {
    const base_error_t *err;
    const apr_array_header_t *cas;      /* of const manager_ca_config_t *: all there are, in order */
    int ca;                             /* index of the one it happened with */
    int validations;                    /* that failed in this attempt */
    apr_interval_time_t lifetime;       /* of the certificate in service, 0 without one */
    apr_time_t now;
    apr_uint32_t random;                /* 32 random bits */
} manager_ledger_failure_t;

/**
 * Note a failure and set next_try. The CA that is to be tried next decides (see _avoid()): at once when
 * the name has not failed there yet; else by its failures there: 1, 10, 100 minutes, then a day. Problems
 * only a human can solve (kind OPERATOR) wait the maximum. Never longer than a day and a twentieth of the
 * lifetime of the certificate in service, up to 20 % of jitter included. Not earlier than the CA's
 * retry_at when that CA is the one to be tried (up to a day), and not before an hour has passed since the
 * fourth last failed validation: these two go before the twentieth. Kinds CANCELLED, BUSY, CA_DOWN and
 * REFUSED are no failures of the name and change nothing but the failed validations (and next_try, when
 * those used the hour up): a CA is waited for once, for all names, and a policy may say yes at any time.
 */
void manager_ledger_fail(manager_ledger_t *ledger, const manager_ledger_failure_t *failure);

/** Which CAs should not be tried for the name now: bit i for the i-th. One where it failed
 * MANAGER_LEDGER_FAILING times in a row, or that refused it for good (OPERATOR) or until later; when that
 * would be all of them, the one with the fewest failures whose time has come, or else comes
 * first, is left out. */
apr_uint32_t manager_ledger_avoid(const manager_ledger_t *ledger, const apr_array_header_t *cas,
                                  apr_time_t now);

/** How many validations may still fail before the limit: 0 to MANAGER_LEDGER_VALIDATIONS. */
int manager_ledger_validations_left(const manager_ledger_t *ledger, apr_time_t now);

/** A certificate that was issued. */
typedef struct manager_ledger_success_t {
    const char *certificate;            /* crypto_bundle_fingerprint() */
    const manager_ca_config_t *ca;
    const char *account;                /* URL, may be NULL */
    const char *challenge;              /* the kind that worked; NULL: none was needed */
    int validations;                    /* that failed in the attempt before it worked */
    apr_interval_time_t lifetime;       /* of the certificate that was in service, 0 without one */
    apr_time_t now;
} manager_ledger_success_t;

/** Note a success: no failures, no problem, no window, who issued and how; `visited`, `configuration`, failed
 * validations and, when none was needed, `challenge` stay. `hasty` grows when the window of the certificate
 * before made it due (window_chosen <= now) within a third of its lifetime (a day, when that is not known)
 * since its own issuance, else becomes 0. */
void manager_ledger_succeed(manager_ledger_t *ledger, const manager_ledger_success_t *success);

#endif
