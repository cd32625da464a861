/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/client.h
 * A conversation with one CA (RFC 8555 sections 6 and 7.1, 7.2): directory, nonces,
 * signed requests, problem documents. Blocking; any number of threads may use
 * one client, no lock is held while the network is.
 */
#ifndef ACME_CLIENT_H
#define ACME_CLIENT_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "acme/http.h"
#include "base/error.h"
#include "base/stop.h"

#define ACME_CLIENT_NONCE_RETRIES 20    /* badNonce answers to one request: a CA that refuses half of all
                                         * good ones is one that works */
#define ACME_CLIENT_NONCES_MAX 32       /* kept in the pool */
#define ACME_CLIENT_NONCE_AGE apr_time_from_sec(300)
#define ACME_CLIENT_DIRECTORY_AGE apr_time_from_sec(24 * 3600)
#define ACME_CLIENT_NONCE_MAX 512       /* letters; a few CAs seal state into their nonces */
#define ACME_CLIENT_PROFILES_MAX 50     /* of a directory that are looked at */
#define ACME_CLIENT_SKEW_MAX apr_time_from_sec(300)     /* between our clock and the CA's, unsaid */
#define ACME_CLIENT_SKEW_EVERY apr_time_from_sec(3600)  /* at most so often: AC0232 */

/** The configuration of one CA; lives as long as the client. */
typedef struct acme_client_config_t {
    const char *name;           /* for people: "letsencrypt", or the host of the URL */
    const char *id;             /* for cache keys: letters, digits, '-', '.' */
    const char *directory_url;
    const char *cafile;         /* NULL: the system's trust */
    const char *proxy;          /* NULL: none */
    const char *email;          /* contact without "mailto:", NULL: none */
    const char *account_pem;    /* own account key as PEM text, NULL: one in the cache */
    const char *eab_kid;        /* external account binding (RFC 8555 section 7.3.4), NULL: none */
    const char *eab_key;        /* its MAC key as the CA gave it out: base64url or base64, padded or not */
    const char *profile;        /* of orders; NULL: the CA chooses */
    const char *chain;          /* CN of an issuer that the chain should lead to; NULL: the CA's choice */
    int no_renewal_info;        /* its renewal information is not asked for */
    int first;                  /* the first CA: its key is Go's "acme_account+key" */
    int tos_any;                /* AutocertAcceptTOS on */
    const apr_array_header_t *tos_urls;     /* of const char *: agreed to exactly these */
} acme_client_config_t;

/** RFC 8555 section 7.1.1; strings NULL when missing. Lives as long as the pool it was
 * copied to. */
typedef struct acme_client_directory_t {
    const char *new_nonce;
    const char *new_account;
    const char *new_order;
    const char *revoke_cert;
    const char *key_change;
    const char *renewal_info;
    const char *terms_of_service;
    const apr_array_header_t *profiles;     /* of const char *: their names; NULL: it has none */
    int external_account_required;
} acme_client_directory_t;

typedef struct acme_client_t acme_client_t;

/** @param stop ends every request and wait; @param now the clock (apr_time_now) */
apr_status_t acme_client_create(acme_client_t **client, const acme_client_config_t *config,
                                const base_stop_t *stop, apr_time_t (*now)(void),
                                apr_pool_t *pool);

/** What it was made with; any thread, never blocks. */
const acme_client_config_t *acme_client_config(const acme_client_t *client);
/** The stop that ends its waits. */
const base_stop_t *acme_client_stop(const acme_client_t *client);
/** Its clock. */
apr_time_t acme_client_now(const acme_client_t *client);

/** The directory, fetched when there is none or it is a day old; a copy in the
 * pool. A directory without newNonce, newAccount or newOrder, or with URLs
 * that are not https, is CA_DOWN with a text that says what it is. */
apr_status_t acme_client_directory(acme_client_t *client, acme_client_directory_t *directory,
                                   apr_pool_t *pool, base_error_t *err);

/** Fetch the directory anew, whatever is known: to find out whether a CA that failed answers again.
 * Blocks. */
apr_status_t acme_client_check(acme_client_t *client, apr_pool_t *pool, base_error_t *err);

/** Does the CA have renewal information (RFC 9773)? 1: yes, 0: no, -1: its directory was not read yet. Never
 * blocks. */
int acme_client_has_renewal_info(acme_client_t *client);

/** One signed request. */
typedef struct acme_client_request_t {
    const char *url;
    const char *payload;        /* JSON text; "" for POST-as-GET */
    EVP_PKEY *key;              /* account key, borrowed */
    const char *kid;            /* account URL; NULL: the jwk is sent */
    const char *accept;         /* NULL: any */
    apr_size_t body_max;        /* 0: ACME_HTTP_JSON_MAX */
    apr_interval_time_t timeout;    /* 0: the default */
} acme_client_request_t;

/** An answer with a 2xx status; of any other, only `problem` is set. */
typedef struct acme_client_answer_t {
    const acme_http_response_t *http;
    json_t *json;               /* the body as object, NULL when it is none; ends with the pool */
    const char *location;       /* resolved, NULL without one */
    apr_time_t retry_at;        /* Retry-After as a moment, 0 without one */
    const json_t *problem;      /* an error's problem document, NULL without one; ends with the pool */
} acme_client_answer_t;

/**
 * POST with a fresh nonce; a badNonce answer is signed again with the nonce that came with it.
 * Any other status than 2xx is an error made from the problem document
 * (RFC 8555 section 6.7):
 *   rateLimited, 429, 503 with Retry-After      WAIT with retry_at (from the header, else from
 *                                               the detail's words, else now + 1 h)
 *   rateLimited that says "paused", no moment   OPERATOR
 *   other 5xx, HTML or nothing, 408, 425,
 *   badNonce again                              CA_DOWN
 *   accountDoesNotExist, 404 with JSON or to
 *   a POST-as-GET                               GONE
 *   every other type                            OPERATOR
 * err->type and err->detail hold the CA's words, subproblems appended; also where to agree to changed
 * terms (userActionRequired), and which account keys the CA wants (badSignatureAlgorithm).
 */
apr_status_t acme_client_post(acme_client_t *client, const acme_client_request_t *request,
                              acme_client_answer_t *answer, apr_pool_t *pool,
                              base_error_t *err);

/** GET without a signature, for what a CA tells everybody (RFC 9773); errors as acme_client_post(), 404 is
 * always GONE. */
apr_status_t acme_client_get(acme_client_t *client, const char *url, acme_client_answer_t *answer,
                             apr_pool_t *pool, base_error_t *err);

/**
 * Does a rate limit concern this name (or its registered domain) alone, by the CA's words? Then other names
 * can be ordered on. Non-zero for "exact set of identifiers", and for a text that names it or a parent
 * domain with at least two labels, in quotes, after "for", or as a subproblem's identifier (of a wildcard: it
 * or its base name; of an address: it or a small network around it, "2001:db8::/64"); zero for limits of
 * the account or of our address, and for any other problem.
 * @param err as acme_client_post() filled it in; @param name identifier, see base/identifier.h. Pure
 */
int acme_client_is_about_name(const base_error_t *err, const char *name);

/** RFC 3339 date and time, or "YYYY-MM-DD HH:MM:SS UTC", as a moment; other text may follow;
 * 0 when it is none. */
apr_time_t acme_client_time(const char *s);

/** Read a problem object found inside another answer (a challenge's or an order's
 * "error") into err, kind VALIDATION. */
void acme_client_problem(base_error_t *err, const json_t *problem, const char *fallback);

#endif
