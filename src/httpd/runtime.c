/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <ap_mpm.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>

#include "httpd/config.h"
#include "httpd/host_policy.h"

APLOG_USE_MODULE(autocert);

/** What outlives the configuration, in the process pool. */
typedef struct retained_t {
    apr_shm_t *shm;
} retained_t;

static httpd_runtime_t runtime = { .wake_fd = { -1, -1 } };

const httpd_runtime_t *httpd_runtime(void)
{
    return &runtime;
}

/* Memory of pconf would be new after a graceful restart, and children of both generations would
 * not see each other. The name tells layouts apart: a module of another version makes its own. */
static apr_status_t attach_segment(server_rec *s, apr_pool_t *ptemp)
{
    const char *key = apr_psprintf(ptemp, "mod_autocert-segment-%d-%" APR_SIZE_T_FMT,
                                   SHARED_SEGMENT_LAYOUT, shared_segment_size());
    retained_t *retained = ap_retained_data_get(key);
    apr_status_t rv;

    if (retained == NULL)
        retained = ap_retained_data_create(key, sizeof(*retained));
    if (retained->shm == NULL) {
        rv = apr_shm_create(&retained->shm, shared_segment_size(), NULL, s->process->pool);
        if (rv != APR_SUCCESS) {
            retained->shm = NULL;
            return rv;
        }
        memset(apr_shm_baseaddr_get(retained->shm), 0, shared_segment_size());
        rv = shared_segment_init(apr_shm_baseaddr_get(retained->shm));
        if (rv != APR_SUCCESS)
            return rv;
    }
    runtime.segment = shared_segment_attach(apr_shm_baseaddr_get(retained->shm));
    if (runtime.segment == NULL)
        return APR_EGENERAL;
    runtime.present = shared_segment_present(runtime.segment);
    runtime.visits = shared_segment_visits(runtime.segment);
    return APR_SUCCESS;
}

static apr_status_t close_pipe(void *data)
{
    (void)data;
    close(runtime.wake_fd[0]);
    close(runtime.wake_fd[1]);
    runtime.wake_fd[0] = runtime.wake_fd[1] = -1;
    return APR_SUCCESS;
}

static void prepare_cache(server_rec *s, apr_pool_t *ptemp)
{
    const httpd_config_global_t *global = httpd_config_global();
    const char *warning = NULL;
    autocert_cache_user_t user;
    apr_status_t rv;

    httpd_config_user(&user);
    rv = global->cache_provider->prepare(global->cache_argument, &user, &warning, ptemp);
    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AC0030: autocert: cache %s:%s cannot be made%s%s; "
                     "nothing can be obtained until it is there", global->cache_kind,
                     global->cache_argument, warning ? ": " : "", warning ? warning : "");
    else if (warning != NULL)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s, "AC0031: autocert: cache %s:%s: %s",
                     global->cache_kind, global->cache_argument, warning);
}

void httpd_runtime_prepare(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *s)
{
    apr_status_t rv = attach_segment(s, ptemp);

    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "AC0032: autocert: no shared memory of %"
                     APR_SIZE_T_FMT " bytes; static certificates are served only, until there is some and "
                     "httpd is started again", shared_segment_size());
    if (pipe2(runtime.wake_fd, O_NONBLOCK | O_CLOEXEC) == 0)
        apr_pool_cleanup_register(pconf, NULL, close_pipe, apr_pool_cleanup_null);
    else
        ap_log_error(APLOG_MARK, APLOG_WARNING, errno, s, "AC0033: autocert: no pipe to wake the "
                     "watchdog; it looks for requests four times a second");
    prepare_cache(s, ptemp);
    httpd_host_policy_load_files(s, ptemp);
}

static int query_mpm(int what)
{
    int value = 0;

    return ap_mpm_query(what, &value) == APR_SUCCESS && value > 0 ? value : 1;
}

void httpd_runtime_open(apr_pool_t *pchild, server_rec *s)
{
    const httpd_config_global_t *global = httpd_config_global();
    apr_status_t rv;

    rv = cache_open(&runtime.cache, global->cache_provider, global->cache_argument, pchild);
    if (rv == APR_SUCCESS && runtime.segment != NULL)
        rv = serve_certs_create(&runtime.certs, runtime.cache,
                                shared_segment_versions(runtime.segment),
                                global->memory / query_mpm(AP_MPMQ_MAX_DAEMONS),
                                query_mpm(AP_MPMQ_MAX_THREADS), pchild);
    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "AC0034: autocert: this child cannot open the cache "
                     "%s:%s; it serves static certificates only", global->cache_kind,
                     global->cache_argument);
}
