"""The explorer: maps, studies and findings in a browser; widgets by Panel, pictures by Bokeh.

Every view is made of functions of data, which know no browser, and a class that shows them.
"""
