/* byte: every byte there and back.                                                   */
#include <chimera/data.h>
#include <chimera/plugin.h>
#include <criterion/criterion.h>
#include <string.h>

extern const struct chi_plugin chimera_plugin_byte;

static const struct chi_tokenizer_ops *ops(void)
{
    return chimera_plugin_byte.components[0]->ops;
}

Test(byte, has_257_ids)
{
    cr_assert_eq(ops()->vocab(NULL), 257);
    cr_assert_eq(ops()->end(NULL), 256);
}

Test(byte, every_byte_comes_back)
{
    unsigned char text[256], out[2];
    int32_t id[256];
    for (int i = 0; i < 256; i++) text[i] = (unsigned char)i;
    cr_assert_eq(ops()->encode(NULL, text, 256, id, 256), 256);
    for (int i = 0; i < 256; i++) {
        cr_assert_eq(id[i], i);
        cr_assert_eq(ops()->decode(NULL, id[i], out, 1), 1);
        cr_assert_eq(out[0], i);
    }
}

Test(byte, keeps_within_the_room_given)
{
    int32_t id[3] = { -7, -7, -7 };
    unsigned char c = 9;
    cr_assert_eq(ops()->encode(NULL, (const unsigned char *)"abcde", 5, id, 2), 5);
    cr_assert_eq(id[1], 'b');
    cr_assert_eq(id[2], -7);
    cr_assert_eq(ops()->decode(NULL, 'x', &c, 0), 1);
    cr_assert_eq(c, 9);
}

Test(byte, ends_and_strangers_have_no_bytes)
{
    unsigned char c = 9;
    cr_assert_eq(ops()->decode(NULL, 256, &c, 1), 0);
    cr_assert_eq(ops()->decode(NULL, 257, &c, 1), 0);
    cr_assert_eq(ops()->decode(NULL, -1, &c, 1), 0);
    cr_assert_eq(c, 9);
}
