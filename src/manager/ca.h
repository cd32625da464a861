/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/ca.h
 * The CAs of the configuration: how each is, and which of them gets the next order of a name. How a CA is,
 * outlives the process in the private record "ca+ID", and other servers on the cache read it too: a CA that
 * said "not within the hour" is left alone by all of them.
 */
#ifndef MANAGER_CA_H
#define MANAGER_CA_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "acme/account.h"
#include "acme/client.h"
#include "base/error.h"
#include "cache/cache.h"
#include "manager/budget.h"

#define MANAGER_CA_MAX 8        /* AutocertCA lines */

/** One AutocertCA line; borrowed from the configuration, only read. */
typedef struct manager_ca_config_t {
    acme_client_config_t acme;
    manager_budget_rate_t rate;         /* orders 0: no limit */
    int test;                           /* nobody trusts its certificates */
} manager_ca_config_t;

#endif
