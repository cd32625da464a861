/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/account_work.h
 * One thread's look for an account, or change of it: what acme/account.c, which starts and ends it, has in
 * common with acme/account_store.c, acme/registration.c and acme/key_change.c. For these files alone.
 *
 * Belongs to one thread, and lives in a pool of its own. No mutex is held while it lasts; "under the lock" in
 * the files of the account means the cache lock of acme_account_work_lock().
 */
#ifndef ACME_ACCOUNT_WORK_H
#define ACME_ACCOUNT_WORK_H

#include <apr_pools.h>
#include <openssl/evp.h>

#include "acme/client.h"
#include "base/error.h"
#include "cache/cache.h"

/** The payload that asks newAccount for an account and makes none (RFC 8555 section 7.3.1). */
#define ACME_ACCOUNT_ONLY_EXISTING "{\"onlyReturnExisting\":true}"

/** Where the account is kept; never changes. */
typedef struct acme_account_places_t {
    cache_t *cache;
    const char *key_name;               /* in the shared space */
    const char *record_name;            /* in the private space; also the lock's */
    const char *pending_name;           /* in the private space: a key that is to follow this one */
} acme_account_places_t;

typedef struct acme_account_work_t {
    acme_client_t *client;
    const acme_client_config_t *config;
    const acme_account_places_t *places;
    acme_client_directory_t directory;
    int reload;                         /* the key is read from the cache, not from memory */
    EVP_PKEY *key;                      /* owned until handed to the account */
    int is_made;                        /* it was made just now: no CA can know it */
    int is_fresh;                       /* it was made for this CA, and never came to be its account */
    const char *thumbprint;
    const char *url;                    /* NULL when not known */
    const char *email;                  /* the contact the CA has by our record, NULL: none */
    cache_lock_t *lock;
    apr_pool_t *pool;
    base_error_t *err;
} acme_account_work_t;

/**
 * Take the cache lock "account+ID" into work->lock, for whoever began the work to give back. Waits for
 * another process up to 30 s. Errors: BUSY after that, CANCELLED when asked to stop, LOCAL.
 */
apr_status_t acme_account_work_lock(acme_account_work_t *work);

/**
 * acme_client_post() for the account itself. Blocks; errors are those of acme_client_post().
 * @param key to sign with, not taken over
 * @param kid NULL to sign with the public key in the header
 * @param payload JSON text, NULL when there was no memory for it: LOCAL
 * @param answer filled in always, with nothing when nothing was asked; lives in the work's pool
 */
apr_status_t acme_account_work_post(acme_account_work_t *work, EVP_PKEY *key, const char *url,
                                    const char *kid, const char *payload, acme_client_answer_t *answer);

#endif
