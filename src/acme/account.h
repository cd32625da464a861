/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/account.h
 * Our account at a CA (RFC 8555 section 7.3): found or made, once, by whoever
 * comes first; its key and URL kept in the cache. Blocking; any thread.
 *
 * Shared key "acme_account+key" (first CA; the legacy "acme_account.key" is read
 * and copied) or "acme_account+key+ID": the account key, traditional PEM.
 * Private record "account+ID": {"directory","url","thumbprint","email","key"}; without "url": the key was
 * made for this CA and has no account yet; "key" is the key's name in the cache, which stays when the
 * lines of the configuration change places. Private record "account+ID+key", while the key is being
 * changed: {"directory","url","old"} on one line, "old" the thumbprint of the key before, then the new key
 * as PEM.
 *
 * External account binding (RFC 8555 section 7.3.4) is sent when an account is made, never for one that
 * exists: with eab_kid, or a CA that requires one, the key is looked for first (onlyReturnExisting).
 */
#ifndef ACME_ACCOUNT_H
#define ACME_ACCOUNT_H

#include <apr_pools.h>
#include <openssl/evp.h>

#include "acme/client.h"
#include "base/error.h"
#include "cache/cache.h"

typedef struct acme_account_t acme_account_t;

/** Make the (still empty) account of a client; freed with the pool. */
apr_status_t acme_account_create(acme_account_t **account, acme_client_t *client, cache_t *cache,
                                 apr_pool_t *pool);

/**
 * See to it that key and URL are known: from memory, from the cache, or from the
 * CA under the cache lock "account+ID" (other threads wait; another process is
 * waited for up to 30 s, then BUSY). The terms are agreed to only as configured: otherwise
 * OPERATOR with the words of what to write, and nothing is sent. An account that exists is
 * used on when the CA's terms change to ones not listed (with a warning), as long as any
 * are. A changed contact is updated at the CA; failing to do so is logged and no error.
 */
apr_status_t acme_account_ensure(acme_account_t *account, base_error_t *err);

/** The CA said that it does not know this account: forget its URL (not its key),
 * so that ensure() registers again. @param url the one that was refused */
void acme_account_forget(acme_account_t *account, const char *url);

/**
 * Change the account's key (RFC 8555 section 7.3.5): an operation for an administrator. The new key (P-256)
 * is stored as pending (private record "account+ID+key") before the CA is asked, so that a crash at
 * any point leaves one of the two that the CA knows; ensure() finds out which. Other processes notice by the
 * first request that fails. Errors: OPERATOR for a key of account= (its file is not ours to write), a CA
 * without keyChange, and what the CA says; BUSY.
 */
apr_status_t acme_account_roll_key(acme_account_t *account, base_error_t *err);

/** The account URL, copied to the pool; NULL before ensure(). */
const char *acme_account_url(acme_account_t *account, apr_pool_t *pool);

/** Non-zero once the CA said that it serves the account no more (deactivated, revoked), until another one
 * is found or made. Never blocks. */
int acme_account_is_closed(acme_account_t *account);

/** The client it belongs to. */
acme_client_t *acme_account_client(acme_account_t *account);

/** token "." thumbprint (RFC 8555 section 8.1), in the pool; NULL before ensure(). */
const char *acme_account_key_authorization(acme_account_t *account, const char *token,
                                           apr_pool_t *pool);

/** acme_client_post() signed by the account; kid of the request is filled in here, and key for the time
 * of the call. Refused although the cache has another key than memory, or one that is to follow it
 * (another process changed it): the request goes once more, with the right one. On accountDoesNotExist
 * the account is forgotten. An account that the CA has closed is OPERATOR with words of how to get a
 * new one. */
apr_status_t acme_account_post(acme_account_t *account, acme_client_request_t *request,
                               acme_client_answer_t *answer, apr_pool_t *pool,
                               base_error_t *err);

#endif
