/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/authorization.h
 * Authorizations and their challenges (RFC 8555 sections 7.1.4 to 7.1.6, 7.5).
 * Each function is one step of the conversation, blocking, for one thread; everything
 * returned is in the pool passed. manager/authorize.c tells the story they make together.
 */
#ifndef ACME_AUTHORIZATION_H
#define ACME_AUTHORIZATION_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "acme/account.h"
#include "acme/object.h"
#include "base/error.h"

#define ACME_AUTHORIZATION_DEADLINE apr_time_from_sec(120)     /* polling, see acme/poll.h */
#define ACME_AUTHORIZATION_CHALLENGES_MAX 20
#define ACME_AUTHORIZATION_ISSUERS_MAX 10       /* of a challenge; with more it is not usable */
#define ACME_AUTHORIZATION_TOKEN_MIN 22         /* base64url letters */
#define ACME_AUTHORIZATION_TOKEN_MAX 256

typedef struct acme_authorization_challenge_t {
    const char *type;
    const char *url;
    const char *token;          /* checked as base64url; NULL for types without one */
    const apr_array_header_t *issuers;      /* const char *, issuer-domain-names of dns-persist-01: host
                                             * names in lower case; NULL: none */
    acme_object_status_t status;
    base_error_t problem;       /* kind NONE unless the CA reported one */
} acme_authorization_challenge_t;

typedef struct acme_authorization_t {
    const char *url;
    const char *identifier;     /* value as the CA spells it, lower case; compare with
                                 * base_identifier_is_same() */
    int wildcard;
    acme_object_status_t status; /* READY is never used here */
    apr_array_header_t *challenges;         /* of acme_authorization_challenge_t */
    apr_time_t retry_at;
} acme_authorization_t;

/** Read an authorization, with a few tries when the CA does not know it yet or fails. GONE when it stays
 * unknown, CA_DOWN when it is of no use. */
apr_status_t acme_authorization_read(acme_authorization_t **authorization,
                                     acme_account_t *account, const char *url,
                                     apr_pool_t *pool, base_error_t *err);

/** The offered challenge of a type with a usable token (or issuers, where the type has no token), part of the
 * authorization, or NULL. Never blocks. */
const acme_authorization_challenge_t *acme_authorization_find_challenge(
    const acme_authorization_t *authorization, const char *type);

/** Tell the CA that the challenge can be validated now (POST {}). When no answer came, what
 * became of it is looked at, and only a challenge that is still pending is told again.
 * @param url of the challenge */
apr_status_t acme_authorization_accept(acme_account_t *account, const char *url,
                                       apr_pool_t *pool, base_error_t *err);

/**
 * Poll until the authorization is valid. VALIDATION with the CA's words when it or
 * the challenge became invalid (some CAs leave the authorization pending for
 * ever: the challenge is looked at too) or the deadline passed.
 */
apr_status_t acme_authorization_wait(acme_account_t *account, const char *url,
                                     const char *challenge_type, apr_pool_t *pool,
                                     base_error_t *err);

/** Give an authorization up (RFC 8555 section 7.5.2); best effort, errors are ignored. */
void acme_authorization_deactivate(acme_account_t *account, const char *url,
                                   apr_pool_t *pool);

#endif
