/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/authorize.h
 * Proving to the CA that the name is ours: one kind of challenge after the other, each published, asked for,
 * waited for and withdrawn. Under the lock of the name; blocks on cache and network.
 */
#ifndef MANAGER_AUTHORIZE_H
#define MANAGER_AUTHORIZE_H

#include "base/error.h"
#include "manager/job.h"

/** Places the order of another kind of challenge: a failed validation ends the order at most CAs. */
typedef apr_status_t manager_authorize_place_t(manager_job_t *job, base_error_t *err);

/**
 * Get the job's order, or one that `place` makes, past its authorizations: ready, processing or valid. The
 * kind that worked last leads; after a failure each later run uses one kind, in turn, and no more
 * validations are risked than the ledger has left: CAs count failed ones. Sets job->challenge,
 * counts job->validations, withdraws every answer it published, unless this child is stopped: then the CA may
 * still come for it, and the order is resumed.
 * @return APR_ENOTIMPL when the CA was asked nothing, so that the order is as good as before
 */
apr_status_t manager_authorize_run(manager_job_t *job, manager_authorize_place_t *place, base_error_t *err);

/** Withdraw the answer that a child which was stopped left published, of a challenge that is over now. */
void manager_authorize_withdraw_left(manager_job_t *job);

#endif
