"""`fastsr compare`: a web page of one file, and a contact sheet, on which pictures enlarged in several ways lie side by side.

`views.py` makes the pictures and measures them, `page.py` puts them into the page (page.html, page.css, page.js) within a budget of bytes, `sheet.py`
draws the contact sheet.
"""
