/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/host_policy.h"

#include <string.h>

#include <ap_regex.h>
#include <apr_file_info.h>
#include <apr_general.h>
#include <apr_hooks.h>
#include <apr_optional_hooks.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

#include "httpd/values.h"
#include "shared/segment.h"

APLOG_USE_MODULE(autocert);

#define FILE_GROWTH 2           /* room for so many times the names that a file has at start */

/* The hook's own functions stay inside; others use APR_OPTIONAL_HOOK and the type in mod_autocert.h. */
#define LOCAL_DECLARE(type) type
APR_DECLARE_EXTERNAL_HOOK(autocert, LOCAL, int, host_policy, (struct server_rec *s, const char *name))
APR_IMPLEMENT_OPTIONAL_HOOK_RUN_ALL(autocert, LOCAL, int, host_policy,
                                    (struct server_rec *s, const char *name), (s, name), DECLINED, DECLINED)

static const char *say(const cmd_parms *cmd, const char *fmt, const char *what)
{
    return apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", apr_psprintf(cmd->pool, fmt, what), NULL);
}

/* --- Rules --- */

static manager_policy_verdict_t judge_any(void *baton, const char *name)
{
    (void)baton;
    (void)name;
    return MANAGER_POLICY_YES;
}

static manager_policy_verdict_t judge_match(void *baton, const char *name)
{
    return ap_regexec(baton, name, 0, NULL, 0) == 0 ? MANAGER_POLICY_YES : MANAGER_POLICY_NO;
}

static manager_policy_verdict_t judge_hook(void *baton, const char *name)
{
    switch (autocert_run_host_policy(baton, name)) {
    case OK:
        return MANAGER_POLICY_YES;
    case DECLINED:
        return MANAGER_POLICY_NO;
    default:
        return MANAGER_POLICY_NEVER;
    }
}

static manager_policy_rule_t *push_rule(httpd_config_t *config)
{
    manager_policy_rule_t *rule = apr_array_push(config->rules);

    memset(rule, 0, sizeof(*rule));
    return rule;
}

/* --- Lines --- */

static const char *add_none(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[])
{
    (void)argv;
    if (argc > 0)
        return say(cmd, "\"none\" stands alone: write \"%s none\"", cmd->cmd->name);
    apr_array_clear(config->rules);
    config->any = 0;
    config->own_rules = 0;
    config->unbounded = NULL;
    return NULL;
}

static const char *add_any(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[])
{
    (void)argv;
    if (argc > 0)
        return say(cmd, "\"any\" stands alone: write \"%s any\"", cmd->cmd->name);
    push_rule(config)->judge = judge_any;
    config->any = 1;
    return NULL;
}

/* Non-zero when the pattern has a repetition without an upper bound outside of a character class. */
static int is_unbounded(const char *pattern)
{
    int in_class = 0;
    const char *c, *comma;

    for (c = pattern; *c != '\0'; c++) {
        if (*c == '\\' && c[1] != '\0')
            c++;
        else if (in_class)
            in_class = *c != ']';
        else if (*c == '[')
            in_class = 1;
        else if (*c == '*' || *c == '+')
            return 1;
        else if (*c == '{' && (comma = strchr(c, ',')) != NULL && comma[1] == '}')
            return 1;
    }
    return 0;
}

static const char *add_match(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[])
{
    manager_policy_rule_t *rule;
    ap_regex_t *regex;

    if (argc != 1)
        return say(cmd, "%s wants one pattern, for example \"match shop[0-9]{1,4}[.]example[.]org\"",
                   "\"match\"");
    regex = ap_pregcomp(cmd->pool, apr_pstrcat(cmd->pool, "^(?:", argv[0], ")$", NULL), AP_REG_ICASE);
    if (regex == NULL)
        return say(cmd, "\"%s\" is no regular expression: write for example "
                   "\"shop[0-9]{1,4}[.]example[.]org\"", argv[0]);
    rule = push_rule(config);
    rule->judge = judge_match;
    rule->baton = regex;
    if (is_unbounded(argv[0]))
        config->unbounded = argv[0];
    return NULL;
}

static const char *add_file(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[])
{
    manager_host_file_t *file;
    apr_finfo_t info;
    const char *path;
    apr_status_t rv;

    if (argc < 1 || argc > 2 || (argc == 2 && strcasecmp(argv[1], "preload") != 0))
        return say(cmd, "\"%s\" wants the path of a file of names, and may be followed by \"preload\"",
                   "file");
    path = ap_server_root_relative(cmd->pool, argv[0]);
    rv = apr_stat(&info, path, APR_FINFO_TYPE, cmd->temp_pool);
    if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv))
        return say(cmd, "%s does not exist: make it, one name a line", path);
    if (rv == APR_SUCCESS && info.filetype != APR_REG)      /* "-t" may be run by who cannot look */
        return say(cmd, "%s is not a file: write the path of a file with one name a line", path);
    file = apr_pcalloc(cmd->pool, sizeof(*file));
    file->path = path;
    file->preload = argc == 2;
    push_rule(config)->file = file;
    APR_ARRAY_PUSH(httpd_config_global()->files, manager_host_file_t *) = file;
    return NULL;
}

/* "unix:PATH|URL" or "URL" */
static const char *read_url(const cmd_parms *cmd, manager_ask_endpoint_t *endpoint, const char *text)
{
    const char *bar, *err;

    endpoint->url = text;
    if (strncasecmp(text, "unix:", 5) == 0) {
        bar = strchr(text, '|');
        if (bar == NULL || bar == text + 5)
            return say(cmd, "\"%s\" is no URL of a socket: write "
                       "\"unix:/path/of/socket|http://localhost/path\"", text);
        endpoint->unix_path = ap_server_root_relative(cmd->pool,
                                                      apr_pstrmemdup(cmd->pool, text + 5, bar - text - 5));
        endpoint->url = bar + 1;
    }
    err = manager_ask_check_url(endpoint->url, cmd->pool);
    return err ? say(cmd, "%s", err) : NULL;
}

static const char *read_ask_key(const cmd_parms *cmd, manager_ask_endpoint_t *endpoint, const char *word)
{
    const char *err;

    if (strncasecmp(word, "cafile=", 7) == 0) {
        apr_finfo_t info;
        apr_status_t rv;

        endpoint->cafile = ap_server_root_relative(cmd->pool, word + 7);
        rv = apr_stat(&info, endpoint->cafile, APR_FINFO_TYPE, cmd->temp_pool);
        if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv))
            return say(cmd, "%s does not exist: write the path of a PEM file", endpoint->cafile);
        return NULL;
    }
    if (strncasecmp(word, "timeout=", 8) != 0)
        return say(cmd, "\"%s\" is not one of cafile=FILE, timeout=DURATION", word);
    err = httpd_values_duration(&endpoint->timeout, word + 8, cmd->pool);
    if (err != NULL)
        return say(cmd, "%s", err);
    return endpoint->timeout > 0 ? NULL : say(cmd, "\"%s\" leaves no time for an answer: write for example "
                                              "\"timeout=5s\"", word);
}

static const char *add_ask(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[])
{
    manager_ask_endpoint_t *endpoint = apr_pcalloc(cmd->pool, sizeof(*endpoint));
    const char *err;
    int i;

    if (argc < 1)
        return say(cmd, "\"%s\" wants a URL, for example \"ask http://127.0.0.1:8080/may-have\"", "ask");
    endpoint->timeout = MANAGER_ASK_TIMEOUT;
    if ((err = read_url(cmd, endpoint, argv[0])) != NULL)
        return err;
    for (i = 1; i < argc; i++)
        if ((err = read_ask_key(cmd, endpoint, argv[i])) != NULL)
            return err;
    push_rule(config)->ask = endpoint;
    return NULL;
}

static const struct {
    const char *kind;
    const char *(*add)(const cmd_parms *cmd, httpd_config_t *config, int argc, char *const argv[]);
} kinds[] = {
    { "none", add_none }, { "file", add_file }, { "match", add_match }, { "ask", add_ask },
    { "any", add_any },
};

const char *httpd_host_policy_add(const cmd_parms *cmd, httpd_config_t *config, int argc,
                                  char *const argv[])
{
    size_t i;

    if (config->rules == NULL)
        config->rules = apr_array_make(cmd->pool, 2, sizeof(manager_policy_rule_t));
    for (i = 0; argc > 0 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcasecmp(argv[0], kinds[i].kind) == 0) {
            config->own_rules = 1;
            return kinds[i].add(cmd, config, argc - 1, argv + 1);
        }
    return say(cmd, "\"%s\" is unknown: write one of none, file PATH, match REGEX, ask URL, any",
               argc > 0 ? argv[0] : "");
}

/* Did another module hook autocert_host_policy? Known from check_config on. */
static int is_hooked(void)
{
    apr_array_header_t *hooks = apr_optional_hook_get("host_policy");

    return hooks != NULL && hooks->nelts > 0;
}

const apr_array_header_t *httpd_host_policy_rules(server_rec *s, const httpd_config_t *config,
                                                  apr_pool_t *pool)
{
    apr_array_header_t *rules = config->rules ? apr_array_copy(pool, config->rules)
                                              : apr_array_make(pool, 1, sizeof(manager_policy_rule_t));

    if (is_hooked()) {
        manager_policy_rule_t *rule = apr_array_push(rules);

        memset(rule, 0, sizeof(*rule));
        rule->judge = judge_hook;
        rule->baton = s;
    }
    return rules;
}

/* --- Files in shared memory --- */

/** What outlives the configuration, in the process pool. */
typedef struct retained_t {
    apr_shm_t *shm;
} retained_t;

static apr_status_t make_set(retained_t *retained, apr_uint32_t slots, apr_pool_t *pool)
{
    unsigned char key[SHARED_NAMES_KEY_SIZE];
    apr_size_t size = shared_names_size(slots);
    apr_status_t rv = apr_generate_random_bytes(key, sizeof(key));

    if (rv == APR_SUCCESS)
        rv = apr_shm_create(&retained->shm, size, NULL, pool);
    if (rv != APR_SUCCESS) {
        retained->shm = NULL;
        return rv;
    }
    memset(apr_shm_baseaddr_get(retained->shm), 0, size);
    shared_names_init(apr_shm_baseaddr_get(retained->shm), slots, key);
    return APR_SUCCESS;
}

/* The set of a file, the same one before and after a graceful restart as long as its names fit. */
static apr_status_t attach_set(manager_host_file_t *file, server_rec *s, apr_pool_t *ptemp)
{
    apr_size_t count = manager_host_file_count(file->path, ptemp) * FILE_GROWTH;
    apr_uint32_t slots = shared_names_slots(count > MANAGER_HOST_FILE_ROOM ? count : MANAGER_HOST_FILE_ROOM);
    const char *key = apr_psprintf(ptemp, "mod_autocert-names-%d-%u-%s", SHARED_SEGMENT_LAYOUT,
                                   (unsigned int)slots, file->path);
    retained_t *retained = ap_retained_data_get(key);
    apr_status_t rv;

    if (retained == NULL)
        retained = ap_retained_data_create(key, sizeof(*retained));
    if (retained->shm == NULL && (rv = make_set(retained, slots, s->process->pool)) != APR_SUCCESS)
        return rv;
    file->names = shared_names_attach(apr_shm_baseaddr_get(retained->shm), shared_names_size(slots));
    return file->names ? APR_SUCCESS : APR_EGENERAL;
}

void httpd_host_policy_load_files(server_rec *s, apr_pool_t *ptemp)
{
    const apr_array_header_t *files = httpd_config_global()->files;
    apr_status_t reported = APR_SUCCESS, rv;
    int i;

    for (i = 0; i < files->nelts; i++) {
        manager_host_file_t *file = APR_ARRAY_IDX(files, i, manager_host_file_t *);

        rv = attach_set(file, s, ptemp);
        if (rv != APR_SUCCESS)
            ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "AC0037: autocert: no shared memory for the names of "
                         "%s; none of them is allowed until there is some and httpd is started again",
                         file->path);
        else
            manager_host_file_load(file, &reported, apr_time_now(), ptemp);
    }
}
