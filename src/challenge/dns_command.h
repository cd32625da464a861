/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/dns_command.h
 * AutocertDNSCommand: a program of the administrator that sets and removes TXT records. It is run without a
 * shell as
 *
 *     PROGRAM [ARG ...] present|cleanup FQDN. VALUE
 *
 * FQDN begins with "_acme-challenge." and ends with a dot; VALUE is base64url and may begin with a hyphen,
 * which is why the action stands before it. Several values can stand at one record name at a time: present
 * adds one, cleanup removes that one only.
 */
#ifndef CHALLENGE_DNS_COMMAND_H
#define CHALLENGE_DNS_COMMAND_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "base/stop.h"

#define CHALLENGE_DNS_COMMAND_PRESENT "present"
#define CHALLENGE_DNS_COMMAND_CLEANUP "cleanup"
#define CHALLENGE_DNS_COMMAND_TIMEOUT apr_time_from_sec(60)     /* of one run */
#define CHALLENGE_DNS_COMMAND_GRACE apr_time_from_msec(500)     /* between SIGTERM and SIGKILL */
#define CHALLENGE_DNS_COMMAND_OUTPUT_MAX 4096   /* bytes of its output that are logged; the rest is counted */
#define CHALLENGE_DNS_COMMAND_SECRET_MAX 65536  /* bytes of standard input */

/** Borrowed from the configuration; never changes once children run. */
typedef struct challenge_dns_command_t {
    const char *const *argv;        /* program (an absolute path) and its own arguments, NULL at the end */
    const char *secret_file;        /* where it was read from, NULL: nowhere; nothing here opens it */
    const char *secret;             /* standard input; NULL: it is empty */
    apr_size_t secret_len;
    apr_interval_time_t timeout;    /* 0: CHALLENGE_DNS_COMMAND_TIMEOUT */
} challenge_dns_command_t;

/** What one run is about. */
typedef struct challenge_dns_command_run_t {
    const char *action;             /* present or cleanup */
    const char *name;               /* the identifier, for the log and AUTOCERT_NAME */
    const char *fqdn;               /* with a dot at the end */
    const char *value;
} challenge_dns_command_run_t;

/**
 * Run it and wait for its end. The program leads a process group of its own, and everything left in that
 * group is killed when it has ended or its time is over; it gets /dev/null-like descriptors only (standard
 * input with the secret, one pipe for its output), default signals, "/" as directory and the environment
 * PATH, LANG=C, AUTOCERT_NAME. Output goes to the log (AC0250, AC0251), control characters replaced.
 * A program that has become another user cannot be killed: it is waited for no longer than two graces, and
 * reaped by a later run. Any thread of a child of httpd; blocks within timeout and graces; a raised stop
 * ends it within the grace.
 * @param stop may be NULL
 * @return VALIDATION with an explained exit status or signal and the last line it printed; LOCAL when it
 *         cannot be started; CANCELLED
 */
apr_status_t challenge_dns_command_run(const challenge_dns_command_t *command,
                                       const challenge_dns_command_run_t *run, const base_stop_t *stop,
                                       apr_pool_t *pool, base_error_t *err);

#endif
