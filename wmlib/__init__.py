"""wmlib"""
