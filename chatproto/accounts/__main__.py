"""Keep the accounts of a chat server: `python -m chatproto.accounts FILE add|remove|list|check [NAME]`.

A server that uses the file takes up what has changed within seconds. Passwords are asked for at the terminal,
or are the first line of the standard input.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence

from chatproto.accounts.passwordfile import (
    AccountsUnusable,
    PasswordFile,
    account_name,
    check_nicks,
    edit_accounts,
    new_account,
)

__all__ = ["main"]

LEAST_PASSWORD_CHARS = 8

MAX_PASSWORD_BYTES = 1_024


class _Refused(Exception):
    """It was not done; the text is one sentence."""


def _ask_password(is_new: bool) -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
        if is_new and getpass.getpass("once more: ") != password:
            raise _Refused("the two are not the same")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if is_new and len(password) < LEAST_PASSWORD_CHARS:
        raise _Refused(f"a password has at least {LEAST_PASSWORD_CHARS} characters")
    if len(password.encode(errors="surrogatepass")) > MAX_PASSWORD_BYTES:
        raise _Refused(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
    return password


def _add(arguments: argparse.Namespace) -> int:
    name = account_name(arguments.name)
    password = _ask_password(is_new=True)
    account = new_account(name, password, arguments.nick, arguments.operator)
    with edit_accounts(arguments.file) as accounts:
        if name in accounts and not arguments.replace:
            raise _Refused(f"there is an account {name} already; --replace gives it another password")
        check_nicks(accounts, account)
        accounts[name] = account
    print(account.name, *account.words())
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    name = account_name(arguments.name)
    with edit_accounts(arguments.file) as accounts:
        if accounts.pop(name, None) is None:
            raise _Refused(f"there is no account {name}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    file = PasswordFile(arguments.file)
    for account in file.accounts:
        print(account.name, *account.words())
    return 0


def _check(arguments: argparse.Namespace) -> int:
    account, hash = PasswordFile(arguments.file).find_hash(arguments.name)
    is_right = hash.fits(_ask_password(is_new=False)) and account is not None
    print("that is right" if is_right else "wrong account or password")
    return 0 if is_right else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chatproto.accounts", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="the password file")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("add", help="add an account")
    add.set_defaults(do=_add)
    add.add_argument("name", metavar="NAME")
    add.add_argument("--operator", action="store_true", help="it may moderate")
    add.add_argument(
        "--nick", action="append", default=[], help="keep this nickname for it; repeatable; else its own name"
    )
    add.add_argument("--replace", action="store_true", help="there may be one of that name already")
    remove = commands.add_parser("remove", help="remove an account")
    remove.set_defaults(do=_remove)
    remove.add_argument("name", metavar="NAME")
    commands.add_parser("list", help="list the accounts").set_defaults(do=_list)
    check = commands.add_parser("check", help="is a password right? exits with 1 if it is not")
    check.set_defaults(do=_check)
    check.add_argument("name", metavar="NAME")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    parsed = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        status: int = parsed.do(parsed)
    except (AccountsUnusable, _Refused, ValueError) as refusal:
        print(str(refusal), file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print(file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
