"""The app's entry: `streamlit run app.py`."""

import streamlit as st

from jdviz.pages import PAGES
from jdviz.pages.controls import escaped
from jdviz.server import take_arguments

st.set_page_config(page_title="jdviz", layout="wide")
for sentence in take_arguments(__file__):
    st.error(escaped(sentence))
st.navigation(
    [
        st.Page(page.path, title=page.name, url_path=page.key, default=number == 0)
        for number, page in enumerate(PAGES.values())
    ],
    position="top",
).run()
