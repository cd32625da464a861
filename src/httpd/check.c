/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/check.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <ap_listen.h>
#include <ap_provider.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

#include "base/identifier.h"
#include "challenge/challenge.h"
#include "challenge/dns01.h"
#include "challenge/http01.h"
#include "challenge/tlsalpn01.h"
#include "httpd/cas.h"
#include "httpd/config.h"
#include "httpd/dns.h"
#include "httpd/host_policy.h"

APLOG_USE_MODULE(autocert);

/** One run of the check. */
typedef struct check_t {
    apr_pool_t *pconf;
    apr_pool_t *ptemp;
    server_rec *main_server;
    httpd_config_global_t *global;
    int errors;
    const char *unbounded;              /* the last pattern that was warned about */
} check_t;

/* --- Messages ---------------------------------------------------------------- */

static void say(check_t *check, int level, const httpd_config_place_t *place, const char *name,
                const char *fmt, va_list args)
{
    const char *text = apr_pvsprintf(check->ptemp, fmt, args), *where = "", *prefix = "";

    if (place != NULL && place->file != NULL)
        where = apr_psprintf(check->ptemp, "%s:%d: ", place->file, place->line);
    if (name != NULL)
        prefix = apr_pstrcat(check->ptemp, name, ": ", NULL);
    ap_log_error(APLOG_MARK, level | APLOG_STARTUP, 0, check->main_server, "%s: autocert: %s%s%s",
                 level == APLOG_ERR ? "AC0010" : "AC0020", prefix, where, text);
}

static void fail(check_t *check, const httpd_config_place_t *place, const char *name,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void fail(check_t *check, const httpd_config_place_t *place, const char *name,
                 const char *fmt, ...)
{
    va_list args;

    check->errors++;
    va_start(args, fmt);
    say(check, APLOG_ERR, place, name, fmt, args);
    va_end(args);
}

static void warn(check_t *check, const httpd_config_place_t *place, const char *name,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void warn(check_t *check, const httpd_config_place_t *place, const char *name,
                 const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(check, APLOG_WARNING, place, name, fmt, args);
    va_end(args);
}

/* --- Which vhosts are managed --------------------------------------------------- */

/* The node of a vhost in the configuration tree: its own lines follow it. Macros give each
 * use a file name of its own, so file and line are enough. */
static const ap_directive_t *find_vhost_node(const ap_directive_t *node, const server_rec *s)
{
    for (; node != NULL; node = node->next)
        if (strcasecmp(node->directive, "<VirtualHost") == 0 && s->defn_name != NULL
            && node->line_num == (int)s->defn_line_number && strcmp(node->filename, s->defn_name) == 0)
            return node;
    return NULL;
}

static const ap_directive_t *find_line(const ap_directive_t *node, const char *name)
{
    while (node != NULL && strcasecmp(node->directive, name) != 0)
        node = node->next;
    return node;
}

static int has_line(const server_rec *s, const char *name)
{
    const ap_directive_t *node = find_vhost_node(ap_conftree, s);

    return (node != NULL && find_line(node->first_child, name) != NULL)
           || find_line(ap_conftree, name) != NULL;
}

/* Is the port of the vhost opened by a Listen line for https? */
static int listens_https(const server_rec *s)
{
    const ap_listen_rec *lr;
    const server_addr_rec *addr;

    for (addr = s->addrs; addr != NULL; addr = addr->next)
        for (lr = ap_listeners; lr != NULL; lr = lr->next)
            if (lr->bind_addr->port == addr->host_port && lr->protocol != NULL
                && strcasecmp(lr->protocol, "https") == 0)
                return 1;
    return 0;
}

/* A vhost with TLS and without a certificate of its own, inherited ones included. */
static int is_bare_tls(const server_rec *s)
{
    const ap_directive_t *node = find_vhost_node(ap_conftree, s), *engine;

    if (has_line(s, "SSLCertificateFile"))
        return 0;
    engine = node ? find_line(node->first_child, "SSLEngine") : NULL;
    if (engine == NULL)
        engine = find_line(ap_conftree, "SSLEngine");
    return engine ? strcasecmp(engine->args, "on") == 0 : listens_https(s);
}

static int is_managed(const server_rec *s, const httpd_config_t *config)
{
    if (!s->is_virtual || config->engine == HTTPD_CONFIG_OFF)
        return 0;
    if (config->listed || config->own_rules || config->engine == HTTPD_CONFIG_ON)
        return 1;
    return config->base_engine == HTTPD_CONFIG_ON && is_bare_tls(s);
}

static httpd_config_place_t place_of(const server_rec *s, const httpd_config_t *config)
{
    httpd_config_place_t place = config->place;

    if (place.file == NULL && config->own_rules)
        return config->rules_place;
    if (place.file == NULL) {
        place.file = s->defn_name;
        place.line = (int)s->defn_line_number;
    }
    return place;
}

/* --- The names of a vhost --------------------------------------------------------- */

/* Does the vhost have a kind of challenge that can prove such a name? */
static int can_prove(const httpd_config_t *config, base_identifier_kind_t identifier)
{
    int i;

    for (i = 0; i < config->challenges->nelts; i++)
        if (APR_ARRAY_IDX(config->challenges, i, const challenge_kind_t *)->proves & identifier)
            return 1;
    return 0;
}

/* What no challenge of the vhost can prove; all of them prove host names. */
static const char *find_unproven(const httpd_config_t *config, base_identifier_kind_t identifier)
{
    if (can_prove(config, identifier))
        return NULL;
    if (identifier == BASE_IDENTIFIER_IP)
        return "is an address, which no DNS challenge proves: write \"http-01\" or \"tls-alpn-01\" in "
               "AutocertChallenges";
    return "is a wildcard, which needs a DNS challenge: write \"AutocertDNSCommand PROGRAM\" and \"dns-01\" "
           "in AutocertChallenges, or the host names one by one";
}

/* Why a name that is spelled right can still have no certificate; NULL when it can. */
static const char *find_obstacle(check_t *check, const httpd_config_t *config, const char *name)
{
    base_identifier_kind_t identifier = base_identifier_kind(name);
    const char *suffix, *reason = find_unproven(config, identifier);

    if (reason != NULL || !httpd_cas_are_public())
        return reason;
    if (identifier == BASE_IDENTIFIER_IP)
        return base_identifier_is_private_address(name)
            ? "is no address of the internet, and no public CA issues for it: write a public one, or name a "
              "private CA with AutocertCA" : NULL;
    suffix = base_hostname_special_use(base_identifier_base(name));
    if (suffix != NULL)
        return apr_psprintf(check->ptemp, "is under \"%s\", for which no public CA issues: write a "
                            "public name, or name a private CA with AutocertCA", suffix);
    return NULL;
}

static void add_name(httpd_config_t *config, const char *name)
{
    int i;

    for (i = 0; i < config->names->nelts; i++)
        if (strcmp(APR_ARRAY_IDX(config->names, i, const char *), name) == 0)
            return;
    APR_ARRAY_PUSH(config->names, const char *) = name;
}

/* A name that stands in ServerName or ServerAlias, not in AutocertDomain: skipped when it cannot be. */
static void add_server_name(check_t *check, const httpd_config_place_t *place, httpd_config_t *config,
                            const char *directive, const char *written)
{
    int pattern = strpbrk(written, "*?") != NULL;
    const char *name, *reason = base_identifier_from_config(&name, written, check->pconf);

    if (reason == NULL)
        reason = find_obstacle(check, config, name);
    if (reason != NULL && pattern)
        reason = "is a pattern";
    /* "ServerAlias *" stands there for names on demand. */
    if (reason != NULL && pattern && config->rules != NULL && config->rules->nelts > 0)
        return;
    if (reason != NULL)
        warn(check, place, NULL, "%s \"%s\" %s; it is skipped and gets no certificate", directive,
             written, reason);
    else
        add_name(config, name);
}

static void add_aliases(check_t *check, const httpd_config_place_t *place, httpd_config_t *config,
                        const apr_array_header_t *aliases)
{
    int i;

    for (i = 0; aliases != NULL && i < aliases->nelts; i++)
        add_server_name(check, place, config, "ServerAlias", APR_ARRAY_IDX(aliases, i, const char *));
}

/* A vhost that is managed only because AutocertHostPolicy stands in it lists no names. */
static int is_on_demand_only(const httpd_config_t *config)
{
    return config->own_rules && !config->listed && config->engine != HTTPD_CONFIG_ON;
}

static void collect_names(check_t *check, server_rec *s, httpd_config_t *config,
                          const httpd_config_place_t *place)
{
    int i;

    for (i = 0; i < config->domains->nelts; i++) {
        const char *name = APR_ARRAY_IDX(config->domains, i, const char *);
        const char *obstacle = find_obstacle(check, config, name);

        if (obstacle != NULL)
            fail(check, place, NULL, "AutocertDomain: \"%s\" %s", name, obstacle);
        else
            add_name(config, name);
    }
    if (config->domains->nelts > 0 || is_on_demand_only(config))
        return;
    if (s->server_hostname != NULL && find_vhost_node(ap_conftree, s) != NULL
        && find_line(find_vhost_node(ap_conftree, s)->first_child, "ServerName") != NULL)
        add_server_name(check, place, config, "ServerName", s->server_hostname);
    add_aliases(check, place, config, s->names);
    add_aliases(check, place, config, s->wild_names);
    if (config->names->nelts == 0 && config->listed)
        fail(check, place, NULL, "AutocertDomain names no host, and the vhost has no ServerName or "
             "ServerAlias that can have a certificate: write \"AutocertDomain www.example.org\"");
}

/* --- Judging one managed vhost ------------------------------------------------------ */

/* Without a line: what needs no more than this server, then what the vhost has a program for. */
static void choose_challenges(check_t *check, httpd_config_t *config, const httpd_config_place_t *place)
{
    static const char *const defaults[] = { CHALLENGE_TLSALPN01_TYPE, CHALLENGE_HTTP01_TYPE,
                                            CHALLENGE_DNS01_TYPE };
    size_t i, n = config->dns != NULL ? 3 : 2;
    int k;

    if (config->challenges == NULL) {
        config->challenges = apr_array_make(check->pconf, (int)n, sizeof(const challenge_kind_t *));
        for (i = 0; i < n; i++)
            APR_ARRAY_PUSH(config->challenges, const challenge_kind_t *) = challenge_find(defaults[i]);
    }
    for (k = 0; k < config->challenges->nelts && config->dns == NULL; k++)
        if (APR_ARRAY_IDX(config->challenges, k, const challenge_kind_t *) == &challenge_dns01)
            fail(check, config->challenges_place.file ? &config->challenges_place : place, NULL,
                 "AutocertChallenges: dns-01 needs a program that sets records: write \"AutocertDNSCommand "
                 "PROGRAM\"");
}

static void fill_settings(httpd_config_t *config)
{
    manager_policy_settings_t *settings = &config->settings;

    settings->challenges = config->challenges;
    settings->dns = httpd_dns_settings(config);
    if (config->kinds == 0) {
        config->key_types[0] = CRYPTO_KEY_P256;
        config->kinds = 1;
    }
    memcpy(settings->key_types, config->key_types, sizeof(settings->key_types));
    settings->kinds = config->kinds;
    settings->retire = config->retire_set ? config->retire : HTTPD_CONFIG_RETIRE_DEFAULT;
    settings->extensions = config->extensions;
    settings->renewal = config->renewal;
}

static void check_ports(check_t *check, const server_rec *s, const httpd_config_place_t *place)
{
    const server_addr_rec *addr;

    for (addr = s->addrs; addr != NULL; addr = addr->next)
        if (addr->host_port == 80 || addr->host_port == 0) {
            fail(check, place, NULL, "AutocertEngine: this vhost %s: move it to <VirtualHost *:443>, or "
                 "write \"AutocertEngine off\" in it",
                 addr->host_port == 80 ? "is for port 80" : "names no port");
            return;     /* "*" stands for several addresses */
        }
}

/* The name of the vhost that is among the words of a line; NULL when none is. */
static const char *find_name_in(const char *args, const server_rec *s, const httpd_config_t *config,
                                apr_pool_t *pool)
{
    const apr_array_header_t *const lists[] = { config->names, s->names, s->wild_names };
    size_t n;
    int i;

    while (*args != '\0') {
        const char *word = ap_getword_conf(pool, &args);

        if (s->server_hostname != NULL && strcasecmp(s->server_hostname, word) == 0)
            return s->server_hostname;
        for (n = 0; n < sizeof(lists) / sizeof(lists[0]); n++)
            for (i = 0; lists[n] != NULL && i < lists[n]->nelts; i++)
                if (strcasecmp(APR_ARRAY_IDX(lists[n], i, const char *), word) == 0)
                    return APR_ARRAY_IDX(lists[n], i, const char *);
    }
    return NULL;
}

/* The first line of mod_md that names the vhost; a section's own lines belong to it. */
static const ap_directive_t *find_md_line(const char **name, const ap_directive_t *node,
                                          const server_rec *s, const httpd_config_t *config,
                                          apr_pool_t *pool)
{
    static const char *const directives[] = { "MDomain", "<MDomain", "<MDomainSet", "MDMember" };
    const ap_directive_t *found;
    size_t d;

    for (; node != NULL; node = node->next)
        for (d = 0; d < sizeof(directives) / sizeof(directives[0]); d++) {
            if (strcasecmp(node->directive, directives[d]) != 0)
                continue;
            *name = find_name_in(apr_pstrndup(pool, node->args, strcspn(node->args, ">")), s, config,
                                 pool);
            if (*name != NULL)
                return node;
            if ((found = find_md_line(name, node->first_child, s, config, pool)) != NULL)
                return found;
        }
    return NULL;
}

/* mod_md manages a vhost when any of its names is in any MDomain. */
static void check_mod_md(check_t *check, const server_rec *s, const httpd_config_t *config,
                         const httpd_config_place_t *place)
{
    const ap_directive_t *vhost = find_vhost_node(ap_conftree, s), *node;
    const char *name;

    if (ap_find_linked_module("mod_md.c") == NULL)
        return;
    node = find_md_line(&name, ap_conftree, s, config, check->ptemp);
    if (node == NULL && vhost != NULL)
        node = find_md_line(&name, vhost->first_child, s, config, check->ptemp);
    if (node != NULL)
        fail(check, place, name, "mod_md manages it too (%s:%d): remove it from MDomain, or "
             "write \"AutocertEngine off\" in the vhost", node->filename, node->line_num);
}

static void add_to_policy(check_t *check, const server_rec *s, httpd_config_t *config,
                          const httpd_config_place_t *place)
{
    int i;

    for (i = 0; i < config->names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(config->names, i, const char *);
        const manager_policy_name_t *known = manager_policy_find(check->global->policy, name);
        int alias = s->server_hostname == NULL || strcasecmp(s->server_hostname, name) != 0;

        if (known != NULL && !manager_policy_settings_equal(known->settings, &config->settings))
            fail(check, place, name, "it stands in two vhosts with different AutocertChallenges, "
                 "AutocertDNSCommand, AutocertKeyTypes, AutocertCSRExtension, AutocertRenewBefore or "
                 "AutocertRetire: write the same in both, or name it in one only");
        manager_policy_add(check->global->policy, name, &config->settings, alias);
        check->global->has_addresses |= base_identifier_kind(name) == BASE_IDENTIFIER_IP;
    }
}

/* mod_ssl takes a vhost on a port for https as a TLS one only if it has certificate files, so one
 * that AutocertEngine of the server manages is given the line that AutocertDomain would stand for. */
static void turn_tls_on(check_t *check, server_rec *s)
{
    ap_directive_t line;
    cmd_parms parms;
    const char *err;

    memset(&line, 0, sizeof(line));
    line.directive = "SSLEngine";
    line.args = "on";
    line.filename = s->defn_name;
    line.line_num = (int)s->defn_line_number;
    memset(&parms, 0, sizeof(parms));
    parms.limited = -1;
    parms.override = RSRC_CONF;
    parms.pool = check->pconf;
    parms.temp_pool = check->ptemp;
    parms.server = s;
    if ((err = ap_walk_config(&line, &parms, s->lookup_defaults)) != NULL)
        fail(check, NULL, NULL, "%s", err);
}

/* A number that tells a vhost from others over restarts: its addresses, its name, its kinds of key. */
static apr_uint32_t identify(check_t *check, const server_rec *s, const httpd_config_t *config)
{
    const char *text = s->server_hostname ? s->server_hostname : "";
    const server_addr_rec *addr;
    apr_uint32_t id;
    int i;

    for (addr = s->addrs; addr != NULL; addr = addr->next)
        text = apr_psprintf(check->ptemp, "%s %s:%d", text, addr->virthost, (int)addr->host_port);
    for (i = 0; i < config->settings.kinds; i++)
        text = apr_pstrcat(check->ptemp, text, " ", crypto_key_type_name(config->settings.key_types[i]),
                           NULL);
    for (id = base_hostname_hash(text); id == 0 || manager_policy_find_vhost(check->global->policy, id); id++)
        ;
    return id;
}

static void add_rules(check_t *check, server_rec *s, httpd_config_t *config, const apr_array_header_t *rules)
{
    if (rules->nelts == 0)
        return;
    if (config->any && !check->global->client_limit_set)
        fail(check, &config->rules_place, NULL, "AutocertHostPolicy: \"any\" lets every stranger cause "
             "orders: write \"AutocertClientLimit 20 1h\" in server config, or \"AutocertClientLimit none\" "
             "if you mean it");
    config->vhost.id = identify(check, s, config);
    config->vhost.settings = &config->settings;
    config->vhost.rules = rules;
    config->vhost.public_ca = httpd_cas_are_public();
    manager_policy_add_vhost(check->global->policy, &config->vhost);
}

/* Does one of the vhosts before it have this very address? Then unknown names go there. */
static int is_first_of(const server_addr_rec *wanted, const apr_array_header_t *vhosts, int before)
{
    const server_addr_rec *addr;
    int i;

    for (i = 0; i < before; i++)
        for (addr = APR_ARRAY_IDX(vhosts, i, server_rec *)->addrs; addr != NULL; addr = addr->next)
            if (addr->host_port == wanted->host_port
                && apr_sockaddr_equal(addr->host_addr, wanted->host_addr))
                return 0;
    return 1;
}

/* A policy for names that never reach its vhost is a mistake that nobody would notice. */
static void check_reach(check_t *check, const apr_array_header_t *vhosts, int index)
{
    const server_rec *s = APR_ARRAY_IDX(vhosts, index, server_rec *);
    const httpd_config_t *config = httpd_config_of(s);
    const server_addr_rec *addr;

    if (!config->managed || !config->own_rules || (s->wild_names != NULL && s->wild_names->nelts > 0))
        return;
    for (addr = s->addrs; addr != NULL; addr = addr->next)
        if (is_first_of(addr, vhosts, index))
            return;
    warn(check, &config->rules_place, NULL, "AutocertHostPolicy: names that no vhost has go to the first one "
         "of this address, so these lines see none: write \"ServerAlias *\" in this vhost, or put it first");
}

/* Once for a line, also when several vhosts inherit it. */
static void check_pattern(check_t *check, const httpd_config_t *config)
{
    if (!config->managed || config->unbounded == NULL || config->unbounded == check->unbounded)
        return;
    check->unbounded = config->unbounded;
    warn(check, &config->rules_place, NULL, "AutocertHostPolicy: the pattern \"%s\" allows any number of "
         "names, so strangers can cause orders until AutocertClientLimit and the order budget stop them: "
         "bound it, for example with \"{1,8}\", or write \"file\" or \"ask\"", config->unbounded);
}

static void check_vhost(check_t *check, server_rec *s)
{
    httpd_config_t *config = httpd_config_of(s);
    httpd_config_place_t place = place_of(s, config);
    const apr_array_header_t *rules;

    config->managed = is_managed(s, config);
    if (!config->managed)
        return;
    if (!config->listed && !has_line(s, "SSLEngine"))
        turn_tls_on(check, s);
    check_ports(check, s, &place);
    choose_challenges(check, config, &place);
    collect_names(check, s, config, &place);
    rules = httpd_host_policy_rules(s, config, check->pconf);
    if (config->names->nelts == 0 && rules->nelts == 0) {
        config->managed = 0;
        return;
    }
    fill_settings(config);
    add_rules(check, s, config, rules);
    check_mod_md(check, s, config, &place);
    add_to_policy(check, s, config, &place);
    check->global->vhosts++;
}

/* After all names are known. */
static void check_default_host(check_t *check, const server_rec *s)
{
    httpd_config_t *config = httpd_config_of(s);

    if (!config->managed)
        return;
    config->no_sni = config->default_host;
    if (config->no_sni == NULL)
        config->no_sni = config->names->nelts > 0 ? APR_ARRAY_IDX(config->names, 0, const char *) : NULL;
    else if (strcmp(config->no_sni, "none") == 0)
        config->no_sni = NULL;
    else if (manager_policy_find(check->global->policy, config->no_sni) == NULL)
        fail(check, &config->default_host_place, NULL, "AutocertDefaultHost: no AutocertDomain lists "
             "\"%s\": write one of its names, or \"none\"", config->no_sni);
}

/* --- The server as a whole ------------------------------------------------------------ */

static void check_modules(check_t *check)
{
    if (ap_find_linked_module("mod_watchdog.c") == NULL)
        fail(check, NULL, NULL, "mod_watchdog is missing: write "
             "\"LoadModule watchdog_module modules/mod_watchdog.so\"");
}

static void check_terms(check_t *check)
{
    if (!check->global->tos_set)
        warn(check, NULL, NULL, "AutocertAcceptTOS is not set: nothing is ordered from a CA with terms of "
             "service; read them and write \"AutocertAcceptTOS on\"");
}

static void check_cas(check_t *check)
{
    const apr_array_header_t *cas = check->global->cas;
    int i, d;

    for (i = 0; i < cas->nelts; i++) {
        const httpd_config_ca_t *ca = APR_ARRAY_IDX(cas, i, const httpd_config_ca_t *);
        const apr_array_header_t *doubts = httpd_cas_find_doubts(ca, check->ptemp);

        for (d = 0; d < doubts->nelts; d++)
            warn(check, &ca->place, NULL, "AutocertCA: %s", APR_ARRAY_IDX(doubts, d, const char *));
    }
}

static int listens_on(apr_port_t port)
{
    const ap_listen_rec *lr;

    for (lr = ap_listeners; lr != NULL; lr = lr->next)
        if (lr->bind_addr->port == port)
            return 1;
    return 0;
}

static void check_listeners(check_t *check)
{
    if (!listens_on(80) && !listens_on(443))
        warn(check, NULL, NULL, "nothing listens on port 80 or 443, where a CA looks for the answers to "
             "its challenges: write \"Listen 443\" and \"Listen 80\", unless these ports are mapped to "
             "this server's");
}

static void check_cache(check_t *check)
{
    httpd_config_global_t *global = check->global;
    autocert_cache_user_t user;
    const char *warning = NULL, *err;

    global->cache_provider = ap_lookup_provider(AUTOCERT_CACHE_PROVIDER_GROUP, global->cache_kind,
                                                AUTOCERT_CACHE_PROVIDER_VERSION);
    if (global->cache_provider == NULL) {
        fail(check, &global->cache_place, NULL, "AutocertCache: kind \"%s\" is unknown: write \"dir:PATH\", "
             "or load the module that brings it", global->cache_kind);
        return;
    }
    httpd_config_user(&user);
    err = global->cache_provider->check(global->cache_argument, &user, &warning, check->ptemp);
    if (err != NULL)
        fail(check, &global->cache_place, NULL, "%s", err);
    else if (warning != NULL)
        warn(check, &global->cache_place, NULL, "%s", warning);
}

/* httpd lets a vhost without a line of ours share the main server's part: what is found out
 * about a vhost needs one of its own. */
static void separate_config(check_t *check, server_rec *s)
{
    httpd_config_t *base = httpd_config_of(check->main_server);

    if (httpd_config_of(s) == base)
        ap_set_module_config(s->module_config, &autocert_module,
                             httpd_config_merge(check->pconf, base, httpd_config_create(check->pconf, s)));
}

/* The virtual hosts in the order of the configuration; httpd puts each new one first. */
static apr_array_header_t *list_vhosts(server_rec *main_server, apr_pool_t *pool)
{
    apr_array_header_t *last_first = apr_array_make(pool, 16, sizeof(server_rec *));
    apr_array_header_t *vhosts = apr_array_make(pool, 16, sizeof(server_rec *));
    server_rec *s;

    for (s = main_server->next; s != NULL; s = s->next)
        APR_ARRAY_PUSH(last_first, server_rec *) = s;
    while (last_first->nelts > 0)
        APR_ARRAY_PUSH(vhosts, server_rec *) = *(server_rec **)apr_array_pop(last_first);
    return vhosts;
}

int httpd_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server)
{
    apr_array_header_t *vhosts = list_vhosts(main_server, ptemp);
    check_t check;
    int i;

    (void)plog;
    memset(&check, 0, sizeof(check));
    check.pconf = pconf;
    check.ptemp = ptemp;
    check.main_server = main_server;
    check.global = httpd_config_global();
    httpd_cas_complete(pconf);
    for (i = 0; i < vhosts->nelts; i++)
        separate_config(&check, APR_ARRAY_IDX(vhosts, i, server_rec *));
    for (i = 0; i < vhosts->nelts; i++)
        check_vhost(&check, APR_ARRAY_IDX(vhosts, i, server_rec *));
    for (i = 0; i < vhosts->nelts; i++) {
        check_default_host(&check, APR_ARRAY_IDX(vhosts, i, server_rec *));
        check_reach(&check, vhosts, i);
        check_pattern(&check, httpd_config_of(APR_ARRAY_IDX(vhosts, i, server_rec *)));
    }
    if (check.global->vhosts == 0)
        return check.errors ? HTTP_INTERNAL_SERVER_ERROR : OK;
    check_modules(&check);
    check_cache(&check);
    check_terms(&check);
    check_cas(&check);
    check_listeners(&check);
    return check.errors ? HTTP_INTERNAL_SERVER_ERROR : OK;
}
