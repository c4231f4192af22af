/* test_model_refusals.c - what a model refuses to be opened with, or to be called with.  */
#include "model_net.h"

Test(model_refusals, a_token_outside_the_vocabulary_is_refused)
{
    struct net n = open_net("", MODEL_INFER, 4, 1);
    unsigned char *state = states(n.model, 1);
    float hidden[4 * 48];
    int32_t token = VOCAB;
    struct model_segment seg = { .tokens = &token, .rows = 1, .fresh = true, .state = state };
    chi_status st = model_forward(n.model, &seg, 1, hidden);
    cr_expect_eq(st, CHI_EDATA);
    cr_expect_not_null(strstr(fail_text(), "outside the vocabulary"), "%s", fail_text());
    mem_free(state);
    close_net(n);
}

Test(model_refusals, a_plan_beyond_the_limit_is_refused_before_memory_is_taken)
{
    struct config *c;
    struct spec *s;
    struct model *m;
    char *text = xprintf("%s[run]\nmemory_limit_mb = 8\n[train]\nseq_len = 4096\n", shape_text);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK);
    cr_assert_eq(spec_open(&s, c, SPEC_MODEL | SPEC_TRAIN), CHI_OK, "%s", fail_text());
    int64_t before = mem_used();
    cr_expect_eq(model_open(&m, s, MODEL_TRAIN, 32768, 64), CHI_ENOMEM);
    cr_expect_not_null(strstr(fail_text(), "memory_limit_mb"), "%s", fail_text());
    cr_expect_leq(mem_used(), before + 65536);
    spec_close(s);
    free(text);
}

/* Sizes whose product leaves 64 bits are refused like any others                               */
Test(model_refusals, a_plan_beyond_all_numbers_is_refused)
{
    struct config *c;
    struct spec *s;
    struct model *m;
    char *text = xprintf("%s[run]\nmemory_limit_mb = 64\n", shape_text);
    char wide[] = "model.hidden_size=65536", deep[] = "model.num_hidden_layers=1024", *const set[] = { wide, deep };
    cr_assert_eq(config_load_text(&c, "test", text, set, COUNT(set)), CHI_OK);
    cr_assert_eq(spec_open(&s, c, SPEC_MODEL | SPEC_TRAIN), CHI_OK, "%s", fail_text());
    int64_t before = mem_used();
    for (int shift = 30; shift <= 44; shift++) {
        cr_assert_eq(model_open(&m, s, MODEL_TRAIN, (int64_t)1 << shift, 64), CHI_ENOMEM, "2^%d rows", shift);
        cr_expect_not_null(strstr(fail_text(), "training this model"), "%s", fail_text());
    }
    cr_expect_eq(mem_used(), before);
    spec_close(s);
    free(text);
}

/* The room that a closed model leaves is taken over by the next, not counted a second time      */
Test(model_refusals, the_same_model_fits_again)
{
    for (int again = 0; again < 3; again++)
        close_net(open_net("[run]\nmemory_limit_mb = 34\n", MODEL_TRAIN, 4096, 8));
}

/* open() of a layer refuses: its words behind the layer's name, nothing left behind            */
Test(model_refusals, a_layer_may_refuse_its_options)
{
    use_memory();
    struct spec *spec;
    struct model *model;
    struct config *c;
    int64_t before = mem_used();
    char theta[] = "layer.TM.theta_max=9", chunk[] = "layer.TM.chunk=199", *const set[] = { theta, chunk };
    cr_assert_eq(config_load_text(&c, "test", shape, set, COUNT(set)), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&model, spec, MODEL_INFER, 4, 1), CHI_ECONF);
    cr_assert_str_eq(fail_text(), "layers.0.mixer: theta_max = 9 with chunk = 199 diverges: their product must not "
                     "exceed 100");
    cr_assert_null(model);
    cr_assert_eq(mem_used(), before);
    spec_close(spec);
}

/* Sizes that nobody has are refused where they are planned, by name                            */
Test(model_refusals, a_negative_size_is_refused)
{
    static const char *const said[][2] = {
        { "state", "layers.0.mixer: state memory has -48 values" },
            { "array", "layers.0.mixer: array rows has -1 values" },
        { "every", "layers.0.mixer: array rows is planned for every -2 rows" },
        { "scratch", "layers.0.mixer: scratch of a task has -64 bytes" },
    };
    use_frozen();
    for (int i = 0; i < COUNT(said); i++) {
        struct spec *spec;
        struct model *model;
        struct config *c;
        int64_t before = mem_used();
        char use[] = "layer.FZ.use=faulty", *size = xprintf("layer.FZ.size=%s", said[i][0]),
            *const set[] = { use, size };
        cr_assert_eq(config_load_text(&c, "test", shape, set, COUNT(set)), CHI_OK, "%s", fail_text());
        cr_assert_eq(spec_open(&spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
        cr_expect_neq(model_open(&model, spec, MODEL_INFER, 4, 1), CHI_OK, "%s", said[i][0]);
        cr_expect_str_eq(fail_text(), said[i][1]);
        cr_expect_eq(mem_used(), before);
        spec_close(spec);
        free(size);
    }
}

Test(model_refusals, a_layer_without_a_backward_pass_runs_but_does_not_train)
{
    use_frozen();
    struct spec *spec;
    struct model *model;
    struct config *c;
    cr_assert_eq(config_load_text(&c, "test", shape, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&model, spec, MODEL_TRAIN, 4, 1), CHI_ECONF);
    cr_assert_str_eq(fail_text(), "layers.0.mixer: layer frozen has no backward pass: it can run, but not train");
    cr_assert_eq(model_open(&model, spec, MODEL_INFER, 4, 1), CHI_OK, "%s", fail_text());
    model_close(model);
    spec_close(spec);
}

Test(model_refusals, training_wants_an_objective)
{
    struct spec *spec;
    struct model *model;
    struct config *c;
    int32_t token[] = { 1, 2 };
    struct model_segment seg = { .tokens = token, .rows = 2, .fresh = true };
    double loss = 0;
    cr_assert_eq(config_load_text(&c, "test", shape, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&model, spec, MODEL_TRAIN, 2, 1), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(model, 1), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_train(model, &seg, 1, token, 1, &loss), CHI_EBUG);
    cr_assert(strstr(fail_text(), "objective"), "%s", fail_text());
    model_close(model);
    spec_close(spec);
}

Test(model_refusals, calls_beyond_the_plan_are_refused)
{
    struct net n = open_net("", MODEL_INFER, 4, 2);
    int32_t token[8] = { 0 };
    float hidden[4 * 48];
    unsigned char *state = states(n.model, 3);
    struct model_segment seg[3];
    for (int i = 0; i < 3; i++)
        seg[i] = (struct model_segment){ .tokens = token, .rows = 1, .fresh = true,
                                         .state = state + i * model_state_bytes(n.model) };
    cr_assert_eq(model_forward(n.model, seg, 3, hidden), CHI_EBUG);
    seg[1].rows = 4;
    cr_assert_eq(model_forward(n.model, seg, 2, hidden), CHI_EBUG);
    seg[1].rows = 0;
    cr_assert_eq(model_forward(n.model, seg, 2, hidden), CHI_EBUG);
    seg[1].rows = 3;
    cr_assert_eq(model_forward(n.model, seg, 2, hidden), CHI_OK, "%s", fail_text());
    mem_free(state);
    close_net(n);
}
