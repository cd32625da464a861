/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/listeners.h
 * Where this server listens, for its looks at its own answers (challenge/self_check.h).
 */
#ifndef HTTPD_LISTENERS_H
#define HTTPD_LISTENERS_H

#include <httpd.h>

#include "challenge/challenge.h"

/** The Listen lines as addresses that can be connected to: loopback where all are listened on. Those on port
 * 80 and 443 first. A child, before its threads start; in the pool. */
const challenge_listeners_t *httpd_listeners_list(server_rec *main_server, apr_pool_t *pool);

#endif
