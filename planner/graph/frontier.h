/* TEMPORARY adapter */
#pragma once
#include "planner/graph/graph_curve.h"
#include "planner/graph/chain_curve.h"
#include "planner/core/problem.h"
#include "planner/core/solver_options.h"
typedef ckpt_graph_curve ckpt_pareto; 
typedef ckpt_graph_point ckpt_pareto_point;
static inline ckpt_pareto ckpt_pareto_of(const ckpt_problem *p) { return (ckpt_pareto){.graph = p->graph, .costs = p->costs, .alignment_bytes = p->alignment_bytes}; }
#define ckpt_pareto_fill(own, st, tb, o, err) ckpt_chain_curve_build(st, tb, own, err)
#define ckpt_pareto_add ckpt_graph_curve_add
#define ckpt_pareto_free ckpt_graph_curve_free
#define ckpt_pareto_find ckpt_graph_curve_find
#define ckpt_pareto_above ckpt_graph_curve_above
#define TEMP_STAGES(p, o, st, err) ckpt_stages_find((p)->graph, (p)->costs, (p)->alignment_bytes, st, err)
#define TEMP_TABLES(c, t, err) ckpt_chain_tables_build(c, &(ckpt_chain_limits){.tables_only = true}, t, err)
