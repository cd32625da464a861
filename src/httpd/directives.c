/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/directives.h"

#include <arpa/inet.h>
#include <string.h>

#include <ap_mpm.h>
#include <ap_listen.h>
#include <apr_network_io.h>
#include <apr_strings.h>
#include <http_core.h>

#include "base/identifier.h"
#include "cache/dir.h"
#include "challenge/challenge.h"
#include "crypto/csr.h"
#include "httpd/cas.h"
#include "httpd/config.h"
#include "httpd/dns.h"
#include "httpd/host_policy.h"
#include "httpd/values.h"
#include "shared/waiters.h"

#define HTTPS_PORT 443
#define NO_MOD_SSL "needs mod_ssl: run \"a2enmod ssl\", or write " \
                   "\"LoadModule ssl_module modules/mod_ssl.so\""

static const char *check_global(cmd_parms *cmd)
{
    return ap_check_cmd_context(cmd, GLOBAL_ONLY);
}

static const char *check_server(cmd_parms *cmd)
{
    return ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT);
}

static void note_place(httpd_config_place_t *place, const cmd_parms *cmd)
{
    place->file = cmd->directive->filename;
    place->line = cmd->directive->line_num;
}

/* "AutocertX VALUE: reason" */
static const char *refuse(const cmd_parms *cmd, const char *reason)
{
    return reason ? apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", reason, NULL) : NULL;
}

/* --- Directives that stand for other directives ------------------------------ */

static const ap_directive_t *siblings(const cmd_parms *cmd)
{
    const ap_directive_t *parent = cmd->directive->parent;

    return parent ? parent->first_child : ap_conftree;
}

static const ap_directive_t *find_directive(const ap_directive_t *node, const char *name)
{
    while (node != NULL && strcasecmp(node->directive, name) != 0)
        node = node->next;
    return node;
}

/* Run a directive as if it stood where cmd's does. On a copy: the walk overwrites
 * cmd->directive. */
static const char *walk(const cmd_parms *cmd, const char *name, const char *args)
{
    ap_directive_t *node = apr_pcalloc(cmd->pool, sizeof(*node));
    cmd_parms copy = *cmd;

    node->directive = name;
    node->args = args;
    node->filename = cmd->directive->filename;
    node->line_num = cmd->directive->line_num;
    node->parent = cmd->directive->parent;
    return ap_walk_config(node, &copy, cmd->server->lookup_defaults);
}

/* --- Engine and names ---------------------------------------------------------- */

/* "unless the vhost says otherwise": anywhere in it, also further down. */
static const char *turn_tls_on(const cmd_parms *cmd)
{
    return find_directive(siblings(cmd), "SSLEngine") ? NULL : walk(cmd, "SSLEngine", "on");
}

static const char *set_engine(cmd_parms *cmd, void *dir, int on)
{
    const char *err = check_server(cmd);

    (void)dir;
    if (err != NULL)
        return err;
    if (on && ap_find_linked_module("mod_ssl.c") == NULL)
        return refuse(cmd, NO_MOD_SSL);
    httpd_config_of(cmd->server)->engine = on ? HTTPD_CONFIG_ON : HTTPD_CONFIG_OFF;
    return on && cmd->server->is_virtual ? turn_tls_on(cmd) : NULL;
}

/* A vhost for plain HTTP must not begin to speak TLS. */
static const char *check_port(const cmd_parms *cmd)
{
    const server_addr_rec *addr;

    for (addr = cmd->server->addrs; addr != NULL; addr = addr->next) {
        if (addr->host_port == 80)
            return refuse(cmd, "belongs in <VirtualHost *:443>: this one is for port 80, and http-01 "
                          "needs no line on port 80");
        if (addr->host_port == 0)
            return refuse(cmd, "belongs in <VirtualHost *:443>: this one names no port");
    }
    return NULL;
}

/* One name or address as written, in its one spelling. */
static const char *read_name(const cmd_parms *cmd, const char *text, const char **name)
{
    const char *reason = base_identifier_from_config(name, text, cmd->pool);

    return reason == NULL ? NULL
        : refuse(cmd, apr_psprintf(cmd->pool, "\"%s\" %s: write a full host name, for example "
                                   "\"www.example.org\"", text, reason));
}

static int contains(const apr_array_header_t *names, const char *name)
{
    int i;

    for (i = 0; i < names->nelts; i++)
        if (strcasecmp(APR_ARRAY_IDX(names, i, const char *), name) == 0)
            return 1;
    return 0;
}

static const char *add_alias(const cmd_parms *cmd, const char *name)
{
    const server_rec *s = cmd->server;

    if ((s->names && contains(s->names, name)) || (s->wild_names && contains(s->wild_names, name)))
        return NULL;
    return walk(cmd, "ServerAlias", name);
}

/* As the directive does it, but it takes what stands behind a colon of an address for a port, and wants no
 * wildcard; a vhost without a name would be looked up in DNS. */
static const char *set_server_name(const cmd_parms *cmd, const char *name)
{
    if (strpbrk(name, "*:") == NULL)
        return walk(cmd, "ServerName", name);
    cmd->server->server_hostname = apr_pstrdup(cmd->pool, name);
    cmd->server->port = 0;
    return NULL;
}

/* Make the vhost answer to a name: ServerName when it has none, else ServerAlias. */
static const char *add_server_name(const cmd_parms *cmd, const char *name)
{
    base_identifier_kind_t kind = base_identifier_kind(name);
    const char *known = cmd->server->server_hostname, *err = NULL;
    char reverse[BASE_HOSTNAME_SIZE];

    /* That of a wildcard is ours, and makes way for a name. */
    if ((known == NULL || (known[0] == '*' && kind == BASE_IDENTIFIER_DNS))
        && find_directive(siblings(cmd), "ServerName") == NULL)
        err = set_server_name(cmd, name);
    else if (known == NULL || strcasecmp(known, name) != 0)
        err = add_alias(cmd, name);
    if (err == NULL && kind == BASE_IDENTIFIER_WILDCARD)    /* a ServerName is no pattern */
        err = add_alias(cmd, name);
    if (err == NULL && kind == BASE_IDENTIFIER_IP)          /* as a CA names it in SNI */
        err = add_alias(cmd, base_identifier_reverse(reverse, name));
    return err;
}

/* What a line needs that makes its vhost a managed one. */
static const char *check_tls_vhost(const cmd_parms *cmd)
{
    return ap_find_linked_module("mod_ssl.c") == NULL ? refuse(cmd, NO_MOD_SSL) : check_port(cmd);
}

/* httpd reads no more words of a line than this, and says nothing of the rest. */
#define WORDS_MAX 64

static const char *check_words(const cmd_parms *cmd, int argc)
{
    if (argc < WORDS_MAX)
        return NULL;
    return refuse(cmd, apr_psprintf(cmd->pool, "has more than %d words, and httpd reads no more of a line: "
                                    "write several lines", WORDS_MAX - 1));
}

static const char *set_domain(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd), *name;
    int i;

    (void)dir;
    if (err != NULL)
        return err;
    if (!cmd->server->is_virtual)
        return refuse(cmd, "belongs in <VirtualHost *:443>; for a server without virtual hosts "
                      "write \"AutocertListener NAME\" instead");
    if ((err = check_tls_vhost(cmd)) != NULL || (err = check_words(cmd, argc)) != NULL)
        return err;
    if (!config->listed)
        note_place(&config->place, cmd);
    config->listed = 1;
    for (i = 0; i < argc; i++) {
        if ((err = read_name(cmd, argv[i], &name)) != NULL
            || (err = add_server_name(cmd, name)) != NULL)
            return err;
        if (!contains(config->domains, name))
            APR_ARRAY_PUSH(config->domains, const char *) = name;
    }
    return turn_tls_on(cmd);
}

/* In server config the lines are only inherited, by vhosts that are managed. */
static const char *add_host_policy(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd);

    (void)dir;
    if (err != NULL || (err = httpd_host_policy_add(cmd, config, argc, argv)) != NULL)
        return err;
    note_place(&config->rules_place, cmd);
    if (!cmd->server->is_virtual || !config->own_rules)
        return NULL;
    return (err = check_tls_vhost(cmd)) != NULL ? err : turn_tls_on(cmd);
}

/* --- AutocertListener ------------------------------------------------------------ */

/* Does a Listen line of the tree, before or after this one, open the port? */
static int listens_on(const ap_directive_t *node, apr_port_t port, apr_pool_t *pool)
{
    for (; (node = find_directive(node, "Listen")) != NULL; node = node->next) {
        const char *args = node->args;
        char *host, *scope, *word = ap_getword_conf(pool, &args);
        apr_port_t found = 0;

        if (apr_parse_addr_port(&host, &scope, &found, word, pool) == APR_SUCCESS && found == port)
            return 1;
    }
    return 0;
}

static const char *check_no_vhost(const cmd_parms *cmd, apr_port_t port)
{
    const ap_directive_t *node = ap_conftree;
    apr_pool_t *pool = cmd->pool;

    for (; (node = find_directive(node, "<VirtualHost")) != NULL; node = node->next) {
        const char *args = apr_pstrndup(pool, node->args, strcspn(node->args, ">"));

        while (*args != '\0') {
            char *host, *scope, *word = ap_getword_conf(pool, &args);
            apr_port_t found = 0;

            if (apr_parse_addr_port(&host, &scope, &found, word, pool) == APR_SUCCESS && found == port)
                return refuse(cmd, apr_psprintf(pool, "a <VirtualHost> for port %d stands at %s:%d: "
                                                "write \"AutocertDomain NAME\" in it instead",
                                                (int)port, node->filename, node->line_num));
        }
    }
    return NULL;
}

static ap_directive_t *make_child(const cmd_parms *cmd, ap_directive_t *parent, const char *name,
                                  const char *args)
{
    ap_directive_t *node = apr_pcalloc(cmd->pool, sizeof(*node)), **last = &parent->first_child;

    node->directive = name;
    node->args = args;
    node->filename = cmd->directive->filename;
    node->line_num = cmd->directive->line_num;
    node->parent = parent;
    while (*last != NULL)
        last = &(*last)->next;
    *last = node;
    return node;
}

/* The one vhost: its names, and HTTP/2 where the server can and the administrator did not choose. */
static const char *make_vhost(const cmd_parms *cmd, const char *address, const char *names)
{
    ap_directive_t *vhost = apr_pcalloc(cmd->pool, sizeof(*vhost));
    cmd_parms copy = *cmd;
    int threaded = 0;

    vhost->directive = "<VirtualHost";
    vhost->args = apr_pstrcat(cmd->pool, address, ">", NULL);
    vhost->filename = cmd->directive->filename;
    vhost->line_num = cmd->directive->line_num;
    make_child(cmd, vhost, "AutocertDomain", names);
    if (ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) == APR_SUCCESS
        && threaded != AP_MPMQ_NOT_SUPPORTED && ap_find_linked_module("mod_http2.c") != NULL
        && find_directive(ap_conftree, "Protocols") == NULL)
        make_child(cmd, vhost, "Protocols", "h2 http/1.1");
    return ap_walk_config(vhost, &copy, cmd->server->lookup_defaults);
}

/* "8443", "*:8443", "192.0.2.1:8443", "[::1]:8443": an address is told from a name by its shape.
 * What is none leaves host and port as they are. A host name is none: "-t" looks nothing up. */
static int read_address(const cmd_parms *cmd, const char *text, const char **host, apr_port_t *port)
{
    char *found = NULL, *scope = NULL;
    unsigned char address[16];          /* of IPv6, the longer one */
    apr_port_t given = 0;

    if (apr_parse_addr_port(&found, &scope, &given, text, cmd->pool) != APR_SUCCESS || given == 0)
        return 0;
    if (found == NULL)
        *host = "*";
    else if (strcmp(found, "*") == 0 || inet_pton(AF_INET, found, address) == 1)
        *host = found;
    else if (inet_pton(AF_INET6, found, address) == 1)
        *host = apr_pstrcat(cmd->pool, "[", found, "]", NULL);
    else
        return 0;
    *port = given;
    return 1;
}

static const char *set_listener(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    const char *err = check_global(cmd), *host = "*", *names = "";
    apr_port_t port = HTTPS_PORT;
    int i, first = 0;

    (void)dir;
    if (err != NULL)
        return err;
    if (ap_find_linked_module("mod_ssl.c") == NULL)
        return refuse(cmd, NO_MOD_SSL);
    if ((err = check_words(cmd, argc)) != NULL)
        return err;
    if (argc > 0 && read_address(cmd, argv[0], &host, &port))
        first = 1;
    if (first == argc)
        return refuse(cmd, "needs at least one name, for example \"AutocertListener www.example.org\"");
    for (i = first; i < argc; i++) {
        const char *name;

        if ((err = read_name(cmd, argv[i], &name)) != NULL)
            return err;
        names = apr_pstrcat(cmd->pool, names, *names ? " " : "", name, NULL);
    }
    if ((err = check_no_vhost(cmd, port)) != NULL)
        return err;
    if (!listens_on(ap_conftree, port, cmd->pool)) {
        const char *address = strcmp(host, "*") == 0 ? "" : apr_pstrcat(cmd->pool, host, ":", NULL);

        err = walk(cmd, "Listen", apr_psprintf(cmd->pool, "%s%d https", address, (int)port));
        if (err != NULL)
            return err;
    }
    APR_ARRAY_PUSH(httpd_config_global()->listener_ports, apr_port_t) = port;
    return make_vhost(cmd, apr_psprintf(cmd->pool, "%s:%d", host, (int)port), names);
}

/* --- The CA ------------------------------------------------------------------------ */

static const char *add_ca(cmd_parms *cmd, void *dir, const char *args)
{
    const char *err = check_global(cmd);

    (void)dir;
    return err ? err : refuse(cmd, httpd_cas_add(cmd, args));
}

static const char *set_accept_tos(cmd_parms *cmd, void *dir, const char *arg)
{
    httpd_config_global_t *global = httpd_config_global();
    const char *err = check_global(cmd);

    (void)dir;
    if (err != NULL)
        return err;
    if (strcasecmp(arg, "off") == 0) {
        global->tos_any = global->tos_set = 0;
    }
    else if (strcasecmp(arg, "on") == 0) {
        global->tos_any = global->tos_set = 1;
    }
    else if (strchr(arg, ':') != NULL) {
        APR_ARRAY_PUSH(global->tos_urls, const char *) = arg;
        global->tos_set = 1;
    }
    else {
        return refuse(cmd, apr_psprintf(cmd->pool, "\"%s\": write \"on\", \"off\", or the URL of the "
                                        "terms of service you agree to", arg));
    }
    return NULL;
}

static const char *set_email(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *err = check_global(cmd);

    (void)dir;
    if (err == NULL)
        httpd_config_global()->email = arg;
    return err ? err : refuse(cmd, httpd_values_email(arg, cmd->pool));
}

/* --- The cache and memory -------------------------------------------------------------- */

static const char *set_cache(cmd_parms *cmd, void *dir, const char *arg)
{
    httpd_config_global_t *global = httpd_config_global();
    const char *err = check_global(cmd), *colon = strchr(arg, ':');

    (void)dir;
    if (err != NULL)
        return err;
    if (colon == NULL || colon == arg || colon[1] == '\0')
        return refuse(cmd, apr_psprintf(cmd->pool, "\"%s\" names no kind: write \"dir:%s\"", arg,
                                        colon ? "PATH" : arg));
    note_place(&global->cache_place, cmd);
    global->cache_kind = apr_pstrmemdup(cmd->pool, arg, colon - arg);
    global->cache_argument = colon + 1;
    if (strcmp(global->cache_kind, CACHE_DIR_KIND) == 0)
        global->cache_argument = ap_server_root_relative(cmd->pool, colon + 1);
    global->cache_provider = NULL;      /* other modules may register it later: looked up in check_config */
    return NULL;
}

static const char *set_memory(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *err = check_global(cmd);

    (void)dir;
    return err ? err : refuse(cmd, httpd_values_size(&httpd_config_global()->memory, arg, cmd->pool));
}

/* --- How names get certificates ------------------------------------------------------------ */

static const char *set_challenges(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd);
    int i, k;

    (void)dir;
    if (err != NULL)
        return err;
    if (argc == 0)
        return refuse(cmd, apr_psprintf(cmd->pool, "needs at least one of %s", challenge_types(cmd->pool)));
    note_place(&config->challenges_place, cmd);
    config->challenges = apr_array_make(cmd->pool, argc, sizeof(const challenge_kind_t *));
    for (i = 0; i < argc; i++) {
        const challenge_kind_t *kind = challenge_find(argv[i]);

        if (kind == NULL)
            return refuse(cmd, apr_psprintf(cmd->pool, "\"%s\" is unknown: write one or more of %s",
                                            argv[i], challenge_types(cmd->pool)));
        for (k = 0; k < config->challenges->nelts; k++)
            if (APR_ARRAY_IDX(config->challenges, k, const challenge_kind_t *) == kind)
                return refuse(cmd, apr_psprintf(cmd->pool, "\"%s\" stands twice: write it once", argv[i]));
        APR_ARRAY_PUSH(config->challenges, const challenge_kind_t *) = kind;
    }
    return NULL;
}

static const char *set_dns_command(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    const char *err = check_server(cmd);

    (void)dir;
    if (err != NULL || (err = check_words(cmd, argc)) != NULL)
        return err;
    return refuse(cmd, httpd_dns_set_command(cmd, httpd_config_of(cmd->server), argc, argv));
}

static const char *set_dns_resolver(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    const char *err = check_global(cmd);

    (void)dir;
    return err ? err : refuse(cmd, httpd_dns_set_resolver(cmd, argc, argv));
}

static const char *set_key_types(cmd_parms *cmd, void *dir, const char *first, const char *second)
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *words[MANAGER_POLICY_KINDS] = { first, second };
    const char *err = check_server(cmd);
    int i;

    (void)dir;
    for (i = 0; err == NULL && i < MANAGER_POLICY_KINDS && words[i] != NULL; i++)
        if (!crypto_key_type_find(&config->key_types[i], words[i]))
            err = refuse(cmd, apr_psprintf(cmd->pool, "\"%s\" is unknown: write one of p256, p384, rsa2048, "
                                           "rsa3072, rsa4096", words[i]));
    if (err != NULL)
        return err;
    config->kinds = i;
    if (i == 2 && !crypto_key_type_is_rsa(config->key_types[0])
                      == !crypto_key_type_is_rsa(config->key_types[1]))
        return refuse(cmd, apr_psprintf(cmd->pool, "\"%s %s\" are of one kind, and the second is for clients "
                                        "that cannot use the first: write for example \"p256 rsa2048\"",
                                        first, second));
    return NULL;
}

static const char *add_csr_extension(cmd_parms *cmd, void *dir, const char *oid, const char *hex)
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd);
    crypto_csr_extension_t extension;

    (void)dir;
    if (err != NULL)
        return err;
    if ((err = crypto_csr_extension_parse(&extension, oid, hex, cmd->pool)) != NULL)
        return refuse(cmd, err);
    if (config->extensions == NULL)
        config->extensions = apr_array_make(cmd->pool, 1, sizeof(crypto_csr_extension_t));
    APR_ARRAY_PUSH(config->extensions, crypto_csr_extension_t) = extension;
    return NULL;
}

static const char *set_renew_before(cmd_parms *cmd, void *dir, const char *arg)
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd);

    (void)dir;
    if (err != NULL)
        return err;
    config->renewal_set = 1;
    return refuse(cmd, httpd_values_renewal(&config->renewal, arg, cmd->pool));
}

static const char *set_retire(cmd_parms *cmd, void *dir, const char *arg)
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd);

    (void)dir;
    if (err != NULL || (err = refuse(cmd, httpd_values_duration(&config->retire, arg, cmd->pool))) != NULL)
        return err;
    if (config->retire <= 0)
        return refuse(cmd, "0 would never renew a name on demand: write for example \"30d\"");
    config->retire_set = 1;
    return NULL;
}

/* --- What strangers may cause ------------------------------------------------------------------ */

static const char *set_wait(cmd_parms *cmd, void *dir, const char *time, const char *most)
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd);

    (void)dir;
    if (err != NULL || (err = refuse(cmd, httpd_values_duration(&config->wait, time, cmd->pool))) != NULL)
        return err;
    if (config->wait > SHARED_WAITERS_WAIT_MAX)
        return refuse(cmd, apr_psprintf(cmd->pool, "\"%s\" is longer than any client waits: write 5mi or "
                                        "less", time));
    config->wait_set = 1;
    config->wait_most = 0;
    return most ? refuse(cmd, httpd_values_count(&config->wait_most, most, "how many handshakes may wait",
                                                 cmd->pool)) : NULL;
}

static const char *add_exempt(const cmd_parms *cmd, const char *word)
{
    char *address = apr_pstrdup(cmd->pool, word), *mask = strchr(address, '/');
    apr_ipsubnet_t *network = NULL;

    if (mask != NULL)
        *mask++ = '\0';
    if (apr_ipsubnet_create(&network, address, mask, cmd->pool) != APR_SUCCESS)
        return refuse(cmd, apr_psprintf(cmd->pool, "\"%s\" is no network: write for example \"192.0.2.0/24\" "
                                        "or \"2001:db8::/32\"", word));
    APR_ARRAY_PUSH(httpd_config_global()->client_except, apr_ipsubnet_t *) = network;
    return NULL;
}

static const char *set_client_limit(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    httpd_config_global_t *global = httpd_config_global();
    shared_clients_limit_t *limit = &global->client_limit;
    const char *err = check_global(cmd);
    int i;

    (void)dir;
    if (err != NULL)
        return err;
    global->client_limit_set = 1;
    if (argc == 1 && strcasecmp(argv[0], "none") == 0) {
        limit->orders = 0;
        return NULL;
    }
    if (argc < 2 || (argc > 2 && (strcasecmp(argv[2], "except") != 0 || argc == 3)))
        return refuse(cmd, "write \"N PERIOD\", \"N PERIOD except NETWORK ...\" or \"none\", for example "
                      "\"20 1h\"");
    if ((err = httpd_values_count(&limit->orders, argv[0], "how many orders", cmd->pool)) != NULL
        || (err = httpd_values_duration(&limit->period, argv[1], cmd->pool)) != NULL)
        return refuse(cmd, err);
    if (limit->period < apr_time_from_sec(1) || limit->period > SHARED_CLIENTS_PERIOD_MAX)
        return refuse(cmd, apr_psprintf(cmd->pool, "the period \"%s\" is out of range: write 1s to 30d",
                                        argv[1]));
    for (i = 3; i < argc; i++)
        if ((err = add_exempt(cmd, argv[i])) != NULL)
            return err;
    return NULL;
}

/* --- How clients are answered ------------------------------------------------------------------ */

static const char *set_redirect(cmd_parms *cmd, void *dir, const char *arg)
{
    static const char *const words[] = { "off", "temporary", "permanent" };
    const char *err = check_server(cmd);
    int i;

    (void)dir;
    for (i = 0; err == NULL && i < 3; i++)
        if (strcasecmp(arg, words[i]) == 0) {
            httpd_config_of(cmd->server)->redirect = (httpd_config_redirect_t)i;
            return NULL;
        }
    return err ? err : refuse(cmd, apr_psprintf(cmd->pool, "\"%s\": write off, temporary or permanent", arg));
}

static const char *set_fallback(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *err = check_server(cmd);
    httpd_config_t *config = httpd_config_of(cmd->server);

    (void)dir;
    if (err != NULL)
        return err;
    if (strcasecmp(arg, "alert") == 0)
        config->fallback = HTTPD_CONFIG_FALLBACK_ALERT;
    else if (strcasecmp(arg, "placeholder") == 0)
        config->fallback = HTTPD_CONFIG_FALLBACK_PLACEHOLDER;
    else
        return refuse(cmd, apr_psprintf(cmd->pool, "\"%s\": write alert or placeholder", arg));
    return NULL;
}

static const char *set_default_host(cmd_parms *cmd, void *dir, const char *arg)
{
    httpd_config_t *config = httpd_config_of(cmd->server);
    const char *err = check_server(cmd);

    (void)dir;
    if (err != NULL)
        return err;
    note_place(&config->default_host_place, cmd);
    config->default_host = "none";
    return strcasecmp(arg, "none") == 0 ? NULL : read_name(cmd, arg, &config->default_host);
}

const command_rec httpd_directives_table[] = {
    AP_INIT_FLAG("AutocertEngine", set_engine, NULL, RSRC_CONF,
                 "on: this vhost (in server config: every TLS vhost without a certificate) is "
                 "managed; off: never"),
    AP_INIT_TAKE_ARGV("AutocertDomain", set_domain, NULL, RSRC_CONF,
                      "names and addresses that get a certificate; none: ServerName and every ServerAlias"),
    AP_INIT_TAKE_ARGV("AutocertHostPolicy", add_host_policy, NULL, RSRC_CONF,
                      "none, file PATH [preload], match REGEX, ask URL [cafile=FILE] [timeout=T], or any: "
                      "which names that no AutocertDomain lists may get a certificate"),
    AP_INIT_TAKE_ARGV("AutocertListener", set_listener, NULL, RSRC_CONF,
                      "[[address:]port] and names of a complete HTTPS server"),
    AP_INIT_RAW_ARGS("AutocertCA", add_ca, NULL, RSRC_CONF,
                      "name or directory URL of an ACME server, then key=value settings; several lines "
                     "are tried in order"),
    AP_INIT_ITERATE("AutocertAcceptTOS", set_accept_tos, NULL, RSRC_CONF,
                    "on, or the URLs of the terms of service that are agreed to"),
    AP_INIT_TAKE1("AutocertEmail", set_email, NULL, RSRC_CONF, "contact of the ACME account"),
    AP_INIT_TAKE1("AutocertCache", set_cache, NULL, RSRC_CONF, "kind:argument of the certificate cache"),
    AP_INIT_TAKE1("AutocertMemory", set_memory, NULL, RSRC_CONF,
                  "bytes for parsed certificates of all children together"),
    AP_INIT_TAKE_ARGV("AutocertChallenges", set_challenges, NULL, RSRC_CONF,
                      "challenge types in the order of preference"),
    AP_INIT_TAKE_ARGV("AutocertDNSCommand", set_dns_command, NULL, RSRC_CONF,
                      "program and its arguments, run with present|cleanup FQDN VALUE for dns-01; "
                      "secret=FILE, wait=T, timeout=T"),
    AP_INIT_TAKE_ARGV("AutocertDNSResolver", set_dns_resolver, NULL, RSRC_CONF,
                      "addresses of the DNS servers that new records are looked for through"),
    AP_INIT_TAKE12("AutocertKeyTypes", set_key_types, NULL, RSRC_CONF,
                   "type of the certificates' keys, and another for clients that cannot use it"),
    AP_INIT_TAKE2("AutocertCSRExtension", add_csr_extension, NULL, RSRC_CONF,
                  "OID[,critical] and the value in hexadecimal DER"),
    AP_INIT_TAKE1("AutocertRenewBefore", set_renew_before, NULL, RSRC_CONF,
                  "duration before the end, or share of the lifetime, when a certificate is renewed"),
    AP_INIT_TAKE1("AutocertRetire", set_retire, NULL, RSRC_CONF,
                  "names on demand that nobody visited for so long are not renewed"),
    AP_INIT_TAKE12("AutocertWait", set_wait, NULL, RSRC_CONF,
                   "longest time a handshake waits for its certificate, and how many may wait at once"),
    AP_INIT_TAKE_ARGV("AutocertClientLimit", set_client_limit, NULL, RSRC_CONF,
                      "N PERIOD [except NETWORK ...], or none: orders that one client network may cause"),
    AP_INIT_TAKE1("AutocertRedirect", set_redirect, NULL, RSRC_CONF,
                  "off, temporary or permanent redirect from http to https"),
    AP_INIT_TAKE1("AutocertFallback", set_fallback, NULL, RSRC_CONF,
                  "alert or placeholder, for a name without a certificate"),
    AP_INIT_TAKE1("AutocertDefaultHost", set_default_host, NULL, RSRC_CONF,
                  "name for clients without SNI, or none"),
    { NULL, { NULL }, NULL, 0, 0, NULL }
};
