/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/account_store.h
 * The account's key and record in the cache; the names are told in acme/account.h. For the files of the
 * account alone. Reads and writes files; one thread for each work. Errors are LOCAL where nothing else is
 * said.
 */
#ifndef ACME_ACCOUNT_STORE_H
#define ACME_ACCOUNT_STORE_H

#include <apr_pools.h>
#include <openssl/evp.h>

#include "acme/account_work.h"
#include "crypto/key.h"

/** The cache key of the account's key: the one that the record of this directory names, as the lines of the
 * configuration may have changed places since; else Go's name for the first CA, that with the id for
 * others. */
const char *acme_account_store_key_name(cache_t *cache, const acme_client_config_t *config,
                                        const char *record_name, apr_pool_t *pool);

/**
 * The key that exists already into work->key: the one that is there, that of account=, or the cached one. An
 * empty file is no key. OPERATOR for a key of a kind that cannot sign here.
 * @return APR_NOTFOUND, err not set, without one
 */
apr_status_t acme_account_store_find_key(acme_account_work_t *work);

/** Forget the key in hand: what another process may have changed is read again under the lock. */
void acme_account_store_read_anew(acme_account_work_t *work);

/** Under the lock, without a key: the first CA's legacy one under its new name, or else a new P-256 key. */
apr_status_t acme_account_store_make_key(acme_account_work_t *work);

/**
 * Under the lock: a new key instead of the one in hand, stored before it is used. The record without a URL
 * that goes before it says that the key is nobody's account yet, and so may still be exchanged for one that
 * the CA can read; it matters only where that happens.
 */
apr_status_t acme_account_store_make_new_key(acme_account_work_t *work, crypto_key_type_t type);

/** Under the lock: store work->key as the account's. @param what happened to it, for the log */
apr_status_t acme_account_store_put_key(acme_account_work_t *work, const char *what);

/** The key in the cache, whatever is in memory; the caller owns it.
 * @return APR_NOTFOUND without one, other errors without words; *key is NULL then */
apr_status_t acme_account_store_peek_key(const acme_account_places_t *places,
                                         const acme_client_config_t *config, EVP_PKEY **key,
                                         apr_pool_t *pool);

/** Look into the record with a key in hand: fills in thumbprint, url, email and is_fresh. Only a record of
 * this directory and this key counts; none is no error. */
void acme_account_store_find_record(acme_account_work_t *work);

/** Store the record; failing to is logged. Losing it costs one question to the CA: no error. */
void acme_account_store_put_record(acme_account_work_t *work);

/** Remove the record if it has this URL, or ensure() would find a refused one there again.
 * @param pool for the time of the call */
void acme_account_store_forget_record(const acme_account_places_t *places, const acme_client_config_t *config,
                                      const char *url, apr_pool_t *pool);

#endif
