"""The app's entry: `streamlit run app.py`."""

import streamlit as st

from jdviz.pages import PAGES
from jdviz.pages.controls import escaped
from jdviz.pages.lecture import hidden, take_lecture
from jdviz.server import take_arguments

st.set_page_config(page_title="jdviz", layout="wide")
take_lecture()
for sentence in take_arguments(__file__):
    st.error(escaped(sentence))
st.navigation(
    [
        st.Page(page.path, title=page.name, url_path=page.key, default=number == 0)
        for number, page in enumerate(PAGES.values())
    ],
    position="hidden" if hidden("nav") else "top",
).run()
