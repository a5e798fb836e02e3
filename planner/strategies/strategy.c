#include "planner/strategies/strategy.h"

#include <string.h>

typedef ckpt_status (*strategy_function)(const ckpt_strategy_input *, ckpt_pool *, ckpt_strategy_result *,
                                         ckpt_error *);

static const struct {
    const char *name;
    strategy_function run;
} strategies[CKPT_STRATEGY_COUNT] = {
#define X(ID, id_name, text) [CKPT_STRATEGY_##ID] = {#id_name, ckpt_strategy_##id_name},
    CKPT_STRATEGY_LIST(X)
#undef X
};

bool ckpt_strategy_parse(const char *name, ckpt_strategy *strategy) {
    for (int i = 0; i < CKPT_STRATEGY_COUNT; i++)
        if (strcmp(name, strategies[i].name) == 0) {
            *strategy = (ckpt_strategy)i;
            return true;
        }
    return false;
}

const char *ckpt_strategy_name(ckpt_strategy strategy) {
    return strategies[strategy].name;
}

ckpt_status ckpt_strategy_run(const ckpt_strategy_input *input, ckpt_pool *pool, ckpt_strategy_result *result,
                              ckpt_error *err) {
    *result = (ckpt_strategy_result){0};
    return strategies[input->options->strategy].run(input, pool, result, err);
}
