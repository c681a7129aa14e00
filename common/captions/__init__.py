"""Caption writing: prompts, checks, pools of elements, and three kinds of writers behind one interface.

Everything here can be imported without torch; the back ends that need it import it when opened.
"""
