/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/job.h
 * One order being worked on: what manager/order.c, which tells the story, has in common with the chapters
 * in manager/saved.c and manager/authorize.c. Belongs to one worker thread, under the lock of the name.
 */
#ifndef MANAGER_JOB_H
#define MANAGER_JOB_H

#include <apr_pools.h>
#include <apr_time.h>
#include <openssl/evp.h>

#include "acme/account.h"
#include "acme/order.h"
#include "manager/ledger.h"
#include "manager/order.h"

typedef struct manager_job_t {
    const manager_order_context_t *context;
    const manager_order_task_t *task;
    const manager_policy_name_t *name;
    const manager_ca_t *ca;             /* that is asked in this run */
    char cache_key[MANAGER_POLICY_CACHE_KEY_SIZE];      /* of the certificate */
    manager_ledger_t ledger;
    apr_interval_time_t lifetime;       /* of the certificate in service, 0: none */
    apr_time_t started;
    const char *replaces;               /* renewal id of the certificate in service, NULL: not this CA's */
    EVP_PKEY *key;                      /* of the certificate being ordered; owned */
    acme_order_t *order;
    apr_time_t placed_at;               /* when an order was about to be placed whose URL is not known, 0 */
    const char *asked;                  /* URL of the challenge the CA was told to validate, NULL: none */
    apr_time_t asked_at;
    const char *asked_type;
    const char *asked_token;
    const char *challenge;              /* the type that worked, NULL: none was needed */
    int validations;                    /* that failed in this run */
    int funded;                         /* an order of the budget is in hand */
    int damaged;                        /* the file in the cache is no good at any time */
    int under_way;                      /* the CA has answered about this order in this run */
    int interruptions;                  /* runs before this one that the CA did not let end */
    int placing;                        /* the CA was asked for a new order last */
    manager_order_scope_t scope;
    apr_pool_t *pool;
} manager_job_t;

#endif
