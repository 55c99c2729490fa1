"""Browser components: each has its HTML, CSS and JavaScript in files of their own."""
