"""The app's entry: `streamlit run app.py`."""

import streamlit as st

from jdviz.pages import PAGES

st.set_page_config(page_title="jdviz", layout="wide")
st.navigation(
    [
        st.Page(page.path, title=page.name, url_path=page.key, default=number == 0)
        for number, page in enumerate(PAGES.values())
    ],
    position="top",
).run()
