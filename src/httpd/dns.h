/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/dns.h
 * AutocertDNSCommand and AutocertDNSResolver: how DNS proves names.
 */
#ifndef HTTPD_DNS_H
#define HTTPD_DNS_H

#include <httpd.h>
#include <http_config.h>

#include "httpd/config.h"

/** An AutocertDNSCommand line. @return NULL, or what is wrong and what to write */
const char *httpd_dns_set_command(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[]);

/** An AutocertDNSResolver line: replaces an earlier one. @return NULL, or what is wrong and what to write */
const char *httpd_dns_set_resolver(const cmd_parms *cmd, int argc, char *const argv[]);

/** check_config: what a managed vhost's names are proven with, when one of its kinds of challenge uses DNS;
 * else NULL. @return part of the vhost's configuration */
const challenge_dns_t *httpd_dns_settings(httpd_config_t *config);

/** post_config, second pass: read the secret files while this is still root. One that is of no use is logged,
 * and the program is run without it. */
void httpd_dns_read_secrets(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *main_server);

#endif
