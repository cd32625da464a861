/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/cas.h"

#include <string.h>

#include <apr_lib.h>
#include <apr_sha1.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

#include "acme/http.h"
#include "crypto/jws.h"
#include "httpd/secrets.h"
#include "httpd/values.h"

APLOG_USE_MODULE(autocert);

#define PROFILE_MAX 64                  /* letters of a profile's name */
#define HTTPS "https://"
#define HOURS(n) (APR_TIME_C(n) * 3600 * APR_USEC_PER_SEC)
#define WHAT_PEM "a PEM file"
#define WHAT_EAB "a file that holds \"KID KEY\""

/** CAs that are known by name. */
typedef struct known_ca_t {
    const char *name;
    const char *directory_url;
    int test;
    int needs_eab;
    int needs_email;
    manager_budget_rate_t rate;
} known_ca_t;

/* The first is the default. SSL.com has one directory for each kind of issuer; EC is our usual key. */
static const known_ca_t known_cas[] = {
    { "letsencrypt", HTTPS "acme-v02.api.letsencrypt.org/directory", 0, 0, 0, { 280, HOURS(3) } },
    { "letsencrypt-staging", HTTPS "acme-staging-v02.api.letsencrypt.org/directory", 1, 0, 0,
      { 1400, HOURS(3) } },
    { "zerossl", HTTPS "acme.zerossl.com/v2/DV90", 0, 1, 0, { 0, 0 } },
    { "google", HTTPS "dv.acme-v02.api.pki.goog/directory", 0, 1, 0, { 0, 0 } },
    { "google-staging", HTTPS "dv.acme-v02.test-api.pki.goog/directory", 1, 1, 0, { 0, 0 } },
    { "sslcom", HTTPS "acme.ssl.com/sslcom-dv-ecc", 0, 1, 1, { 0, 0 } },
    { "sslcom-rsa", HTTPS "acme.ssl.com/sslcom-dv-rsa", 0, 1, 1, { 0, 0 } },
    { "actalis", HTTPS "acme-api.actalis.com/acme/directory", 0, 1, 0, { 0, 0 } },
};

#define KNOWN_CAS (sizeof(known_cas) / sizeof(known_cas[0]))

static httpd_config_ca_t *ca_at(int i)
{
    return APR_ARRAY_IDX(httpd_config_global()->cas, i, httpd_config_ca_t *);
}

/* --- Which CA ---------------------------------------------------------------------- */

/* Host names know no upper case, paths do. */
static int is_same_url(const char *a, const char *b)
{
    size_t host = strlen(HTTPS) + strcspn(a + strlen(HTTPS), "/");

    return strncasecmp(a, b, host) == 0 && strcmp(a + host, b + host) == 0;
}

static const known_ca_t *find_known(const char *word)
{
    size_t i;

    for (i = 0; i < KNOWN_CAS; i++)
        if (strcasecmp(word, known_cas[i].name) == 0
            || (acme_http_url_is_usable(word) && is_same_url(word, known_cas[i].directory_url)))
            return &known_cas[i];
    return NULL;
}

static void fill_known(httpd_config_ca_t *ca, const known_ca_t *known)
{
    ca->ca.acme.name = ca->ca.acme.id = known->name;
    ca->ca.acme.directory_url = known->directory_url;
    ca->ca.rate = known->rate;
    ca->ca.test = known->test;
    ca->is_public = 1;
    ca->needs_eab = known->needs_eab;
    ca->needs_email = known->needs_email;
}

static const char *list_names(apr_pool_t *pool)
{
    const char *names = known_cas[0].name;
    size_t i;

    for (i = 1; i < KNOWN_CAS; i++)
        names = apr_pstrcat(pool, names, ", ", known_cas[i].name, NULL);
    return names;
}

/* A CA given by its URL: the host is its name for people, with the path when another one has that
 * host; for cache keys the whole URL counts. */
static const char *fill_unknown(httpd_config_ca_t *ca, const char *url, apr_pool_t *pool)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;
    const char *host = url + strlen(HTTPS);
    int i;

    if (!acme_http_url_is_usable(url))
        return apr_psprintf(pool, "\"%s\" is neither a known CA (%s) nor the https URL of an ACME directory",
                            url, list_names(pool));
    apr_sha1_init(&sha1);
    apr_sha1_update(&sha1, url, (unsigned int)strlen(url));
    apr_sha1_final(digest, &sha1);
    ca->ca.acme.name = apr_pstrndup(pool, host, strcspn(host, "/"));
    for (i = 0; i < httpd_config_global()->cas->nelts; i++)
        if (strcmp(ca_at(i)->ca.acme.name, ca->ca.acme.name) == 0)
            ca->ca.acme.name = host;
    ca->ca.acme.id = apr_psprintf(pool, "%02x%02x%02x%02x%02x%02x%02x%02x", digest[0], digest[1], digest[2],
                                  digest[3], digest[4], digest[5], digest[6], digest[7]);
    ca->ca.acme.directory_url = url;
    return NULL;
}

/* --- The keys of a line -------------------------------------------------------------- */

static const char *set_cafile(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    ca->ca.acme.cafile = ap_server_root_relative(pool, value);
    return httpd_secrets_check_file(ca->ca.acme.cafile, WHAT_PEM, 0, pool);
}

static const char *set_email(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    ca->ca.acme.email = value;
    return httpd_values_email(value, pool);
}

static const char *set_account(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    ca->account_file = ap_server_root_relative(pool, value);
    return httpd_secrets_check_file(ca->account_file, WHAT_PEM, 1, pool);
}

/* "KID:KEY", or a file: what a line shows to everybody who may read the configuration, and what is shown
 * here is never the key. */
static const char *set_eab(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    const char *colon = strchr(value, ':');

    ca->eab_file = ca->ca.acme.eab_kid = ca->ca.acme.eab_key = NULL;
    if (colon == NULL) {
        ca->eab_file = ap_server_root_relative(pool, value);
        return httpd_secrets_check_file(ca->eab_file, WHAT_EAB, 1, pool);
    }
    if (colon == value || strcspn(value, " \t") < (size_t)(colon - value))
        return "the key id in front of the colon of \"eab=\" is empty or has a blank in it: write "
               "\"eab=KID:KEY\", or \"eab=FILE\"";
    if (!crypto_jws_is_mac_key(colon + 1))
        return "the key behind the colon of \"eab=\" is not base64url: copy it as the CA shows it";
    ca->ca.acme.eab_kid = apr_pstrmemdup(pool, value, colon - value);
    ca->ca.acme.eab_key = colon + 1;
    return NULL;
}

static const char *set_profile(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    const char *c;

    for (c = value; apr_isalnum(*c) || (*c != '\0' && strchr("-_.", *c) != NULL); c++)
        ;
    if (*c != '\0' || c == value || c - value > PROFILE_MAX)
        return apr_psprintf(pool, "\"profile=%s\": write the name of a profile as the CA has it, for example "
                            "\"profile=shortlived\"", value);
    ca->ca.acme.profile = value;
    return NULL;
}

static const char *set_chain(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    (void)pool;
    if (*value == '\0')
        return "\"chain=\": write the common name of an issuer, for example chain=\"ISRG Root X1\"";
    ca->ca.acme.chain = value;
    return NULL;
}

static const char *set_proxy(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    if (strcmp(value, "none") == 0)
        value = NULL;
    else if (strncasecmp(value, "http://", 7) != 0 && strncasecmp(value, "https://", 8) != 0
             && strncasecmp(value, "socks5h://", 10) != 0)
        return apr_psprintf(pool, "\"proxy=%s\" is no proxy: write \"proxy=none\" or "
                            "\"proxy=http://HOST:PORT\"", value);
    ca->ca.acme.proxy = value;
    return NULL;
}

static const char *set_orders(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    return httpd_values_rate(&ca->ca.rate, value, pool);
}

static const char *read_switch(int *on, const char *key, const char *value, apr_pool_t *pool)
{
    *on = strcasecmp(value, "on") == 0;
    if (!*on && strcasecmp(value, "off") != 0)
        return apr_psprintf(pool, "\"%s=%s\": write \"%s=on\" or \"%s=off\"", key, value, key, key);
    return NULL;
}

static const char *set_ari(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    int on;
    const char *err = read_switch(&on, "ari", value, pool);

    ca->ca.acme.no_renewal_info = !on;
    return err;
}

static const char *set_test(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool)
{
    return read_switch(&ca->ca.test, "test", value, pool);
}

static const struct {
    const char *key;
    const char *(*set)(httpd_config_ca_t *ca, const char *value, apr_pool_t *pool);
} keys[] = {
    { "account", set_account }, { "ari", set_ari },       { "cafile", set_cafile },
    { "chain", set_chain },     { "eab", set_eab },       { "email", set_email },
    { "orders", set_orders },   { "profile", set_profile }, { "proxy", set_proxy },
    { "test", set_test },
};

/* What is unknown is shown without its value: it may be a secret behind a misspelled key. */
static const char *set_key(httpd_config_ca_t *ca, const char *arg, apr_pool_t *pool)
{
    size_t i, n = strcspn(arg, "=");

    for (i = 0; arg[n] == '=' && i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strlen(keys[i].key) == n && strncasecmp(arg, keys[i].key, n) == 0)
            return keys[i].set(ca, arg + n + 1, pool);
    return apr_psprintf(pool, "\"%.*s\" is not one of eab=FILE, cafile=FILE, profile=NAME, chain=\"ISSUER\", "
                        "email=ADDRESS, account=FILE, proxy=URL|none, orders=N/PERIOD, ari=on|off, "
                        "test=on|off", (int)(arg[n] == '=' ? n + 1 : n), arg);
}

/* --- A line -------------------------------------------------------------------------- */

/* The next word; httpd's own function takes a quote only in front of a word, so what stands
 * between the quotes of key="a b" is left to it without the key. */
static const char *take_word(const char **line, apr_pool_t *pool)
{
    const char *s = *line + strspn(*line, " \t"), *key;
    size_t n = 0;

    while (apr_isalnum(s[n]))
        n++;
    if (n == 0 || s[n] != '=' || (s[n + 1] != '"' && s[n + 1] != '\''))
        return ap_getword_conf(pool, line);
    key = apr_pstrmemdup(pool, s, n + 1);
    *line = s + n + 1;
    return apr_pstrcat(pool, key, ap_getword_conf(pool, line), NULL);
}

/* Twice the same CA is a slip: it would be asked again right after it failed. */
static const char *check_others(const httpd_config_ca_t *ca, const char *word, apr_pool_t *pool)
{
    const apr_array_header_t *cas = httpd_config_global()->cas;
    int i;

    for (i = 0; i < cas->nelts; i++)
        if (is_same_url(ca_at(i)->ca.acme.directory_url, ca->ca.acme.directory_url))
            return apr_psprintf(pool, "\"%s\" stands already at %s:%d: write each CA once", word,
                                ca_at(i)->place.file, ca_at(i)->place.line);
    if (cas->nelts == MANAGER_CA_MAX)
        return apr_psprintf(pool, "\"%s\" is one too many: write at most %d lines", word, MANAGER_CA_MAX);
    return NULL;
}

const char *httpd_cas_add(cmd_parms *cmd, const char *args)
{
    httpd_config_ca_t *ca = apr_pcalloc(cmd->pool, sizeof(*ca));
    const char *word = take_word(&args, cmd->pool), *err;
    const known_ca_t *known;

    if (*word == '\0')
        return "needs the name of a CA or the URL of its directory, for example \"AutocertCA letsencrypt\"";
    ca->place.file = cmd->directive->filename;
    ca->place.line = cmd->directive->line_num;
    if ((known = find_known(word)) != NULL)
        fill_known(ca, known);
    else if ((err = fill_unknown(ca, word, cmd->pool)) != NULL)
        return err;
    if ((err = check_others(ca, word, cmd->pool)) != NULL)
        return err;
    while (*args != '\0')
        if ((err = set_key(ca, take_word(&args, cmd->pool), cmd->pool)) != NULL)
            return err;
    APR_ARRAY_PUSH(httpd_config_global()->cas, httpd_config_ca_t *) = ca;
    return NULL;
}

/* --- All of them --------------------------------------------------------------------- */

void httpd_cas_complete(apr_pool_t *pconf)
{
    httpd_config_global_t *global = httpd_config_global();
    int i;

    if (global->cas->nelts == 0) {
        httpd_config_ca_t *ca = apr_pcalloc(pconf, sizeof(*ca));

        fill_known(ca, &known_cas[0]);
        APR_ARRAY_PUSH(global->cas, httpd_config_ca_t *) = ca;
    }
    for (i = 0; i < global->cas->nelts; i++) {
        acme_client_config_t *acme = &ca_at(i)->ca.acme;

        acme->first = i == 0;
        if (acme->email == NULL)
            acme->email = global->email;
        acme->tos_any = global->tos_any;
        acme->tos_urls = global->tos_urls;
    }
}

int httpd_cas_are_public(void)
{
    int i;

    for (i = 0; i < httpd_config_global()->cas->nelts; i++)
        if (!ca_at(i)->is_public)
            return 0;
    return 1;
}

static int have_real_one(void)
{
    int i;

    for (i = 0; i < httpd_config_global()->cas->nelts; i++)
        if (!ca_at(i)->ca.test)
            return 1;
    return 0;
}

const apr_array_header_t *httpd_cas_find_doubts(const httpd_config_ca_t *ca, apr_pool_t *pool)
{
    apr_array_header_t *doubts = apr_array_make(pool, 3, sizeof(const char *));
    const char *name = ca->ca.acme.name;

    /* With a key of the administrator's own the account is most likely there. */
    if (ca->needs_eab && ca->eab_file == NULL && ca->ca.acme.eab_kid == NULL && ca->account_file == NULL)
        APR_ARRAY_PUSH(doubts, const char *) =
            apr_psprintf(pool, "\"%s\" needs eab=FILE unless the account exists already in the cache: "
                         "get a key id and a key from the CA, and write them into a file", name);
    if (ca->needs_email && ca->ca.acme.email == NULL)
        APR_ARRAY_PUSH(doubts, const char *) =
            apr_psprintf(pool, "\"%s\" issues nothing without a contact: write \"email=ADDRESS\" or "
                         "\"AutocertEmail ADDRESS\"", name);
    if (ca->ca.test && have_real_one())
        APR_ARRAY_PUSH(doubts, const char *) =
            apr_psprintf(pool, "\"%s\" is a test CA beside others: visitors get certificates that nobody "
                         "trusts when its turn comes; remove the line, unless you mean it", name);
    return doubts;
}

const apr_array_header_t *httpd_cas_list(apr_pool_t *pool)
{
    const httpd_config_global_t *global = httpd_config_global();
    apr_array_header_t *list = apr_array_make(pool, global->cas->nelts, sizeof(const manager_ca_config_t *));
    int i;

    for (i = 0; i < global->cas->nelts; i++)
        APR_ARRAY_PUSH(list, const manager_ca_config_t *) = &ca_at(i)->ca;
    return list;
}

/* --- Secrets ------------------------------------------------------------------------- */

/* "KID KEY", on one line or two; empty lines and those that begin with # do not count. */
static int split_binding(acme_client_config_t *acme, char *text)
{
    char *words[2] = { NULL, NULL }, *line, *lines, *word, *rest;
    int n = 0;

    for (line = apr_strtok(text, "\r\n", &lines); line != NULL; line = apr_strtok(NULL, "\r\n", &lines)) {
        if (line[strspn(line, " \t")] == '#')
            continue;
        for (word = apr_strtok(line, " \t", &rest); word != NULL; word = apr_strtok(NULL, " \t", &rest)) {
            if (n == 2)
                return 0;
            words[n++] = word;
        }
    }
    if (n < 2 || !crypto_jws_is_mac_key(words[1]))
        return 0;
    acme->eab_kid = words[0];
    acme->eab_key = words[1];
    return 1;
}

static void read_binding(httpd_config_ca_t *ca, apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *s)
{
    char *text = NULL;
    apr_status_t rv = httpd_secrets_read(&text, NULL, ca->eab_file, pconf, ptemp);

    if (rv == APR_SUCCESS && split_binding(&ca->ca.acme, text))
        return;
    ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AC0038: autocert: %s: the file %s of eab= %s; no new account "
                 "can be made, one that exists is used", ca->ca.acme.name, ca->eab_file,
                 rv == APR_SUCCESS ? "does not hold a key id and a base64url key: write \"KID KEY\" into it, "
                 "as the CA shows them" : "cannot be read");
}

void httpd_cas_read_secrets(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *s)
{
    int i;

    for (i = 0; i < httpd_config_global()->cas->nelts; i++) {
        httpd_config_ca_t *ca = ca_at(i);
        char *text = NULL;
        apr_status_t rv;

        if (ca->eab_file != NULL)
            read_binding(ca, pconf, ptemp, s);
        if (ca->account_file == NULL)
            continue;
        rv = httpd_secrets_read(&text, NULL, ca->account_file, pconf, ptemp);
        if (rv == APR_SUCCESS)
            ca->ca.acme.account_pem = text;
        else
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AC0036: autocert: %s: the account key %s cannot be "
                         "read; the account kept in the cache is used", ca->ca.acme.name, ca->account_file);
    }
}
