/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/dns.h"

#include <string.h>

#include <apr_file_info.h>
#include <apr_strings.h>
#include <http_log.h>

#include "challenge/dns01.h"
#include "httpd/secrets.h"
#include "httpd/values.h"

APLOG_USE_MODULE(autocert);

#define TIMEOUT_MAX apr_time_from_sec(600)      /* of one run of a program */
#define WAIT_MAX apr_time_from_sec(3600)        /* for a record */
#define WHAT_SECRET "the file that is given to the program on its standard input"

/* --- AutocertDNSCommand ------------------------------------------------------------ */

static const char *check_program(const char *path, apr_pool_t *pool)
{
    const apr_fileperms_t execute = APR_FPROT_UEXECUTE | APR_FPROT_GEXECUTE | APR_FPROT_WEXECUTE;
    apr_finfo_t info;
    apr_status_t rv;

    if (path[0] != '/')
        return apr_psprintf(pool, "\"%s\" is no absolute path, and no shell looks for the program: write for "
                            "example \"/usr/local/bin/%s\"", path, path);
    rv = apr_stat(&info, path, APR_FINFO_TYPE | APR_FINFO_PROT, pool);
    if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv))
        return apr_psprintf(pool, "%s does not exist: write the path of a program", path);
    if (rv != APR_SUCCESS)      /* "-t" may be run by a user who cannot look */
        return NULL;
    if (info.filetype != APR_REG || !(info.protection & execute))
        return apr_psprintf(pool, "%s is not a program: run \"chmod 755 %s\" if it should be one", path,
                            path);
    return NULL;
}

static const char *set_secret(httpd_config_dns_t *dns, const char *value, apr_pool_t *pool)
{
    dns->command.secret_file = ap_server_root_relative(pool, value);
    return httpd_secrets_check_file(dns->command.secret_file, WHAT_SECRET, 1, pool);
}

static const char *set_wait(httpd_config_dns_t *dns, const char *value, apr_pool_t *pool)
{
    const char *err = httpd_values_duration(&dns->wait, value, pool);

    return err == NULL && dns->wait > WAIT_MAX
        ? apr_psprintf(pool, "\"wait=%s\" is longer than a CA keeps an order: write 1h or less", value) : err;
}

static const char *set_timeout(httpd_config_dns_t *dns, const char *value, apr_pool_t *pool)
{
    const char *err = httpd_values_duration(&dns->command.timeout, value, pool);

    return err == NULL && (dns->command.timeout <= 0 || dns->command.timeout > TIMEOUT_MAX)
        ? apr_psprintf(pool, "\"timeout=%s\" is out of range: write up to 10mi", value) : err;
}

static const struct {
    const char *key;
    const char *(*set)(httpd_config_dns_t *dns, const char *value, apr_pool_t *pool);
} keys[] = { { "secret=", set_secret }, { "wait=", set_wait }, { "timeout=", set_timeout } };

/* A word that is a setting of ours is taken, any other is an argument of the program. */
static int take_setting(httpd_config_dns_t *dns, const char *word, const char **err, apr_pool_t *pool)
{
    size_t i;

    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        size_t len = strlen(keys[i].key);

        if (strncasecmp(word, keys[i].key, len) == 0) {
            *err = keys[i].set(dns, word + len, pool);
            return 1;
        }
    }
    return 0;
}

const char *httpd_dns_set_command(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[])
{
    apr_array_header_t *words = apr_array_make(cmd->pool, argc + 1, sizeof(const char *));
    httpd_config_dns_t *dns = apr_pcalloc(cmd->pool, sizeof(*dns));
    const char *err = NULL;
    int i;

    if (argc == 0)
        return "needs a program, for example \"AutocertDNSCommand /usr/local/bin/dns-record\"";
    dns->wait = CHALLENGE_DNS01_WAIT;
    for (i = 0; i < argc && err == NULL; i++)
        if (i == 0 || !take_setting(dns, argv[i], &err, cmd->pool))
            APR_ARRAY_PUSH(words, const char *) = argv[i];
    if (err == NULL)
        err = check_program(argv[0], cmd->pool);
    APR_ARRAY_PUSH(words, const char *) = NULL;
    dns->command.argv = (const char *const *)words->elts;
    config->dns = dns;
    return err;
}

/* --- AutocertDNSResolver ------------------------------------------------------------ */

const char *httpd_dns_set_resolver(const cmd_parms *cmd, int argc, char *const argv[])
{
    const char *servers = NULL;
    int i;

    for (i = 0; i < argc; i++) {
        const char *reason = challenge_resolver_check(argv[i]);

        if (reason != NULL)
            return apr_psprintf(cmd->pool, "\"%s\" %s: write the address of a DNS server, for example "
                                "\"192.0.2.53\" or \"[2001:db8::53]:5353\"", argv[i], reason);
        servers = servers ? apr_pstrcat(cmd->pool, servers, ",", argv[i], NULL) : argv[i];
    }
    if (servers == NULL)
        return "needs the address of a DNS server, for example \"AutocertDNSResolver 192.0.2.53\"";
    httpd_config_global()->resolver.servers = servers;
    return NULL;
}

/* --- Use ------------------------------------------------------------------------------ */

const challenge_dns_t *httpd_dns_settings(httpd_config_t *config)
{
    const httpd_config_global_t *global = httpd_config_global();
    challenge_dns_t *settings = &config->dns_settings;
    int i;

    settings->command = config->dns ? &config->dns->command : NULL;
    settings->wait = config->dns ? config->dns->wait : CHALLENGE_DNS01_WAIT;
    settings->resolver = global->resolver.servers ? &global->resolver : NULL;
    for (i = 0; i < config->challenges->nelts; i++)
        if (APR_ARRAY_IDX(config->challenges, i, const challenge_kind_t *)->uses_dns)
            return settings;
    return NULL;
}

void httpd_dns_read_secrets(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *main_server)
{
    server_rec *s;

    for (s = main_server; s != NULL; s = s->next) {
        httpd_config_dns_t *dns = httpd_config_of(s)->dns;
        challenge_dns_command_t *command = dns ? &dns->command : NULL;
        char *text = NULL;
        apr_size_t len = 0;
        apr_status_t rv;

        /* Vhosts share what the server has. */
        if (command == NULL || command->secret_file == NULL || command->secret != NULL)
            continue;
        rv = httpd_secrets_read(&text, &len, command->secret_file, pconf, ptemp);
        command->secret = rv == APR_SUCCESS ? text : "";
        command->secret_len = rv == APR_SUCCESS ? len : 0;
        if (rv != APR_SUCCESS)
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AC0039: autocert: AutocertDNSCommand: the file %s of "
                         "secret= cannot be read; %s is run without it", command->secret_file,
                         command->argv[0]);
    }
}
