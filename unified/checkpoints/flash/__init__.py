"""FLASH (SpecFLASH): a drafter that sees compressed visual tokens and drafts several tokens a pass, as
released: ZihuaEvan/FlashSD, arXiv 2505.12728.
"""
