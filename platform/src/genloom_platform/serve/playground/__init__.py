"""The page at `/`: a form for each served model, made from its prompt's schema. Read `wall.py` first.

wall.py      which requests are the page's, and who may make them
sessions.py  who has shown a key
login.py     the page that asks for one
page.py      the page, in Gradio
panel.py     one model's form and answers
fields.py    a prompt's schema as the fields of a form
widgets.py   what a field looks like
snippets.py  what is in the form as `curl` and as Python
"""
