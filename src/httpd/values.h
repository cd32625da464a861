/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/values.h
 * The formats of directive values. Each returns NULL, or the sentence that says what to write.
 */
#ifndef HTTPD_VALUES_H
#define HTTPD_VALUES_H

#include <apr_pools.h>
#include <apr_time.h>

#include "manager/budget.h"
#include "manager/policy.h"

/** A number with a unit: ms, s, mi or min, h, d; or 0. */
const char *httpd_values_duration(apr_interval_time_t *value, const char *text, apr_pool_t *pool);

/** Bytes: a number, optionally with K, M or G. */
const char *httpd_values_size(apr_size_t *value, const char *text, apr_pool_t *pool);

/** A number from 1 to a million. @param what it counts, for the sentence: "how many orders" */
const char *httpd_values_count(int *value, const char *text, const char *what, apr_pool_t *pool);

/** "N/PERIOD", for example "280/3h". */
const char *httpd_values_rate(manager_budget_rate_t *value, const char *text, apr_pool_t *pool);

/** A duration, or a share of the lifetime: 1% to 90%. */
const char *httpd_values_renewal(manager_policy_renewal_t *value, const char *text, apr_pool_t *pool);

/** A mail address, as the contact of an account. */
const char *httpd_values_email(const char *text, apr_pool_t *pool);

#endif
