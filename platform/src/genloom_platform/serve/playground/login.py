"""The page that asks for the endpoint's key. It has no script, and takes nothing from elsewhere."""

import html
from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Genloom · Sign in</title>
<style>
  :root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #17202e; --soft: #5b6675;
    --line: #d5dbe3; --blue: #1f5fd6; --red: #b3261e; }
  @media (prefers-color-scheme: dark) { :root { --page: #0f141b; --card: #18202a; --ink: #e8edf3;
    --soft: #9aa7b6; --line: #364252; --blue: #3b78e7; --red: #ff8a80; } }
  * { box-sizing: border-box }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 16px;
    background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
  main { width: 100%; max-width: 380px; padding: 28px; background: var(--card);
    border: 1px solid var(--line); border-radius: 14px }
  h1 { margin: 0 0 4px; font-size: 22px } p { margin: 0 0 18px; color: var(--soft) }
  label { display: block; margin-bottom: 6px; font-weight: 600 }
  input, button { width: 100%; padding: 10px 12px; font: inherit; border-radius: 8px }
  input { border: 1px solid var(--line); background: transparent; color: inherit }
  input:focus-visible, button:focus-visible { outline: 3px solid var(--blue); outline-offset: 1px }
  button { margin-top: 14px; border: 0; background: var(--blue); color: #fff; font-weight: 600; cursor: pointer }
  .error { margin: 12px 0 0; color: var(--red) }
</style>
<main>
  <h1>Genloom playground</h1>
  <p>This endpoint asks for a key. Whoever runs it gives you one.</p>
  <form method="post" action="login">
    <label for="key">Key</label>
    <input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
    $error
    <button>Sign in</button>
  </form>
</main>
</html>
""")


def page(error: str = "") -> bytes:
    """The page, with what is wrong with the key that was sent."""
    shown = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
    return PAGE.substitute(error=shown).encode()
