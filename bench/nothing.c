/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Does nothing. */

int main(void)
{
        return 0;
}
